//! How long events are kept: until all groups are done with them, and no longer.

use std::time::Duration;

use meridian_bus::valkey::{EVENTS_KEPT, EVENTS_KEPT_UNREAD};

use crate::server::Server;
use crate::zone::{WEST, World, Zone, until};

/// Entries of which a stream takes all away at once, or none, at most.
const NODE: usize = 100;
/// More than the time that passes within a test.
const A_WHILE: Duration = Duration::from_secs(60);

/// A zone that publishes into a stream that a test has filled.
struct Stream {
    server: Server,
    _world: World,
    zone: Zone,
    raw: redis::Connection,
    key: String,
    published: u64,
}

impl Stream {
    fn new() -> Self {
        let server = Server::start(&["--save", ""]);
        let world = World::new(&server);
        let zone = Zone::claim(&world.world, WEST);
        let (raw, key) = (server.raw(), format!("{{{}}}:events", world.options.world));
        let published = 0;
        Self {
            server,
            _world: world,
            zone,
            raw,
            key,
            published,
        }
    }

    /// Puts so many events into it that are so old.
    fn fill(&mut self, count: usize, age: Duration) {
        let script = "
            local time = redis.call('TIME')
            local ms = string.format('%.0f', time[1] * 1000 - ARGV[2])
            for _ = 1, ARGV[1] do
                redis.call('XADD', KEYS[1], ms .. '-*', 'e', 'thirty bytes, as many as events')
            end";
        let mut fill = redis::cmd("EVAL");
        fill.arg(script).arg(1).arg(&self.key).arg(count);
        fill.arg(age.as_millis() as u64).exec(&mut self.raw).unwrap();
    }

    fn length(&mut self) -> usize {
        redis::cmd("XLEN").arg(&self.key).query(&mut self.raw).unwrap()
    }

    fn begin_group(&mut self, group: &str) {
        let mut begin = redis::cmd("XGROUP");
        begin.arg("CREATE").arg(&self.key).arg(group).arg(0).arg("MKSTREAM");
        begin.exec(&mut self.raw).unwrap();
    }

    /// Reads so many entries, and says their names.
    fn read(&mut self, group: &str, count: usize) -> Vec<String> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(group).arg("one").arg("COUNT").arg(count);
        read.arg("STREAMS").arg(&self.key).arg(">");
        let read: redis::streams::StreamReadReply = read.query(&mut self.raw).unwrap();
        read.keys
            .into_iter()
            .flat_map(|key| key.ids)
            .map(|entry| entry.id)
            .collect()
    }

    fn acknowledge(&mut self, group: &str, entries: &[String]) {
        for entries in entries.chunks(1_000) {
            let mut acknowledge = redis::cmd("XACK");
            acknowledge.arg(&self.key).arg(group).arg(entries);
            acknowledge.exec(&mut self.raw).unwrap();
        }
    }

    /// How often was looked for what nobody needs any more.
    fn looks(&mut self) -> Option<String> {
        let information: String = redis::cmd("INFO").arg("commandstats").query(&mut self.raw).unwrap();
        let line = information
            .lines()
            .find(|line| line.starts_with("cmdstat_xinfo|groups:"))?;
        line.split(',').next().map(str::to_owned)
    }

    /// The zone tells of one, and whoever looks for what nobody needs any more has looked since.
    fn publish(&mut self) {
        let looks = self.looks();
        self.published += 1;
        assert_eq!(self.zone.tell(self.published), self.zone.spawned());
        until("it is looked", || self.looks() != looks);
    }
}

#[test]
fn what_a_group_has_not_read_or_not_acknowledged_is_kept_however_many_come_after_it() {
    let mut stream = Stream::new();
    let all = 70_000;
    stream.begin_group("store");
    stream.begin_group("chat");
    stream.fill(all, EVENTS_KEPT_UNREAD - A_WHILE);
    stream.publish();
    assert_eq!(stream.length(), all + 1, "nobody has read anything");
    let read = stream.read("chat", all + 1);
    stream.acknowledge("chat", &read);
    let read = stream.read("store", all);
    assert_eq!(read.len(), all);
    stream.publish();
    assert_eq!(stream.length(), all + 2, "read is not acknowledged");
    stream.acknowledge("store", &read[1..]);
    stream.publish();
    assert_eq!(stream.length(), all + 3, "the first is not");
    stream.acknowledge("store", &read);
    until("what all are done with goes", || {
        stream.publish();
        stream.length() <= 2 * NODE
    });
    assert_eq!(
        stream.read("store", all).len() as u64,
        stream.published,
        "what came after it is there"
    );
}

#[test]
fn while_there_is_no_group_those_of_the_last_while_are_kept_for_one_to_come() {
    let mut stream = Stream::new();
    stream.fill(5 * NODE, EVENTS_KEPT + A_WHILE);
    let kept = 3 * NODE;
    stream.fill(kept, EVENTS_KEPT - A_WHILE);
    stream.publish();
    assert!(stream.length() >= kept, "{}", stream.length());
    assert!(stream.length() <= kept + NODE + 1, "{}", stream.length());
}

#[test]
fn a_group_that_nobody_reads_for_does_not_fill_the_store() {
    let mut stream = Stream::new();
    stream.begin_group("gone");
    let kept = 3 * NODE;
    stream.fill(5 * NODE, EVENTS_KEPT_UNREAD + A_WHILE);
    stream.fill(kept, EVENTS_KEPT_UNREAD - A_WHILE);
    let mut trim = redis::cmd("EVAL");
    trim.arg(include_str!("../../src/valkey/lua/trim.lua"))
        .arg(1)
        .arg(&stream.key);
    trim.arg(&[EVENTS_KEPT, EVENTS_KEPT_UNREAD].map(|kept| kept.as_millis() as u64)[..]);
    let (length, lost): (usize, usize) = trim.query(&mut stream.raw).unwrap();
    assert!((kept..=kept + NODE).contains(&length), "{length} are left");
    assert_eq!(length + lost, kept + 5 * NODE, "what is gone is told");
    stream.fill(5 * NODE, EVENTS_KEPT);
    stream.publish();
    assert_eq!(stream.length(), length + 5 * NODE + 1, "what is not too old is kept");
}

#[test]
fn a_zone_has_what_is_too_old_taken_away() {
    let mut stream = Stream::new();
    stream.begin_group("gone");
    stream.fill(5 * NODE, EVENTS_KEPT_UNREAD + A_WHILE);
    stream.publish();
    assert!(stream.length() <= NODE, "{} are left", stream.length());
}

#[test]
fn a_group_that_has_read_everything_for_long_loses_nothing() {
    let mut stream = Stream::new();
    stream.begin_group("chat");
    let all = 5 * NODE;
    stream.fill(all, EVENTS_KEPT_UNREAD + A_WHILE);
    let read = stream.read("chat", all);
    stream.acknowledge("chat", &read);
    stream.publish();
    assert_eq!(stream.length(), 1);
    assert_eq!(stream.read("chat", all).len(), 1);
}
