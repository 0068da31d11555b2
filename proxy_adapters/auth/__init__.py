"""Who we are to an HTTP proxy: logins, the schemes, and the order in which they are tried."""
