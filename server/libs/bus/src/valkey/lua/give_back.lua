-- A reader ends: what it has not acknowledged is for others of its group, at once. KEYS[1]: the stream; ARGV: group, consumer, how long they count as
-- left alone, in milliseconds.
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local given = 0
while true do
  local pending = redis.call('XPENDING', stream, group, '-', '+', 100, consumer)
  for _, entry in ipairs(pending) do
    redis.call('XCLAIM', stream, group, 'nobody', 0, entry[1], 'IDLE', ARGV[3], 'JUSTID')
    -- Claiming an entry that fell out of the stream takes it off nobody's list, but this acknowledgement does.
    if #redis.call('XRANGE', stream, entry[1], entry[1]) == 0 then
      redis.call('XACK', stream, group, entry[1])
    end
    given = given + 1
  end
  if #pending < 100 then
    break
  end
end
redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
return given
