-- The services that are there: for how many microseconds still, and the envelope, of each. KEYS[1]: the services.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local listed = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local ends = tonumber(string.sub(all[i + 1], 1, 16))
  if ends and ends > now then
    listed[#listed + 1] = string.format('%.0f', ends - now)
    listed[#listed + 1] = string.sub(all[i + 1], 33)
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return listed
