-- Requests of a crowd of browsers, of which no two have the same head: path, query, cookie and trace differ.
local folder = debug.getinfo(1, "S").source:match("^@(.*/)")
dofile(folder .. "wrk.lua")

local count, fields = 0, {
   "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
   "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
   "Accept-Language: en-US,en;q=0.5",
   "Accept-Encoding: gzip, deflate, br, zstd",
   "Referer: https://shop.example/",
   "Sec-Fetch-Dest: document",
   "Sec-Fetch-Mode: navigate",
   "Sec-Fetch-Site: same-origin",
   "Priority: u=0, i",
}
local run = string.format("%08x", os.time() % 2 ^ 32)  -- nor with those of an earlier round

function init()
   for name, value in pairs(wrk.headers) do
      fields[#fields + 1] = name .. ": " .. value
   end
   fields = table.concat(fields, "\r\n")
end

function request()
   count = count + 1
   local id = string.format("%s%08x", run, count)
   return "GET /varied/" .. id .. "?page=" .. count .. " HTTP/1.1\r\n" .. fields .. "\r\nCookie: session=" .. id .. id
      .. "\r\ntraceparent: 00-" .. id .. id .. "-" .. id .. "-01\r\n\r\n"
end
