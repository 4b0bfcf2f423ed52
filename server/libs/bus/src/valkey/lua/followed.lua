-- How many follow a zone's positions, how many transfers wait for it, and how many events are kept. KEYS: its followers, its inbox, the events.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
return { redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now), '+inf'), redis.call('XLEN', KEYS[2]), redis.call('XLEN', KEYS[3]) }
