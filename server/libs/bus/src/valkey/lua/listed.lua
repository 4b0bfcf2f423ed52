-- The services that are there: for how many microseconds still, and the envelope, of each. KEYS[1]: the services; ARGV: for how many microseconds
-- one is announced at most. What nobody can have announced so is removed: 16 digits of when it ends, 16 of who announces it, the envelope.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local latest = now + tonumber(ARGV[1])
local listed = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local digits = string.match(string.sub(all[i + 1], 1, 16), '^%d+$')
  local ends = digits and #all[i + 1] > 32 and #digits == 16 and tonumber(digits)
  -- One that ends later was said by who does not know the time, and would stay for as long; who lives says it again soon.
  if ends and ends > now and ends <= latest then
    listed[#listed + 1] = string.format('%.0f', ends - now)
    listed[#listed + 1] = string.sub(all[i + 1], 33)
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return listed
