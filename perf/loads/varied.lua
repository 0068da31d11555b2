-- Requests of which no two have the same head: path, query, cookie and trace differ, as those of a crowd do.
local folder = debug.getinfo(1, "S").source:match("^@(.*/)")
dofile(folder .. "wrk.lua")

local count, fields = 0, {}
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
