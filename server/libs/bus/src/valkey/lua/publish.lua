-- Publish events, each once, however often it is sent. KEYS: what the zone has published, the events. ARGV: the publisher, the number of its first
-- event here; an envelope per event. How much is kept is another script's matter.
local published, events = KEYS[1], KEYS[2]
local known = redis.call('HMGET', published, 'by', 'number')
local last = known[1] == ARGV[1] and tonumber(known[2]) or 0
local number = tonumber(ARGV[2])
for i = 3, #ARGV do
  if number > last then
    redis.call('XADD', events, '*', 'e', ARGV[i])
    last = number
  end
  number = number + 1
end
redis.call('HSET', published, 'by', ARGV[1], 'number', string.format('%.0f', last))
return last
