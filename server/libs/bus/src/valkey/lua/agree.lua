-- What holds for the world as long as it lasts is what its first process said. KEYS[1]: meta; ARGV: ticks per second, hash of the world's document,
-- 1 if that is to count from now on.
local meta = KEYS[1]
redis.call('HSETNX', meta, 'tick_rate_hz', ARGV[1])
-- Tick 0 was due this many microseconds after the Unix epoch. At none: so a store that has lost everything repeats no tick's number.
redis.call('HSETNX', meta, 'epoch', '0')
local agreed = redis.call('HMGET', meta, 'tick_rate_hz', 'epoch', 'document')
-- The document may be changed while the world rests: who asks for that has made sure that it does.
if agreed[1] == ARGV[1] and (ARGV[3] == '1' or not agreed[3]) then
  redis.call('HSET', meta, 'document', ARGV[2])
end
return { agreed[1], agreed[2], agreed[3] or '' }
