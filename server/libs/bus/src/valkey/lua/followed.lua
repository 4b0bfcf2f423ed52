-- How many follow a zone's positions, and how many transfers wait for it. KEYS: its followers, its inbox.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
return { redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now), '+inf'), redis.call('XLEN', KEYS[2]) }
