-- A service ends, unless another announces it by now. KEYS[1]: the services; ARGV: its name, who announced it (16 digits).
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known and string.sub(known, 17, 32) == ARGV[2] then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
