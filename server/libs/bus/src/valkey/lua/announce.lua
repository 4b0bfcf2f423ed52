-- A service is there, for a while. KEYS[1]: the services; ARGV: its name, who announces it (16 digits), for how many microseconds, its envelope.
local time = redis.call('TIME')
local ends = tonumber(time[1]) * 1000000 + tonumber(time[2]) + tonumber(ARGV[3])
return redis.call('HSET', KEYS[1], ARGV[1], string.format('%016.0f', ends) .. ARGV[2] .. ARGV[4])
