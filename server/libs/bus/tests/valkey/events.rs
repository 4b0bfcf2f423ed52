//! How long events are kept: until all groups are done with them, and no longer.

use std::time::Duration;

use meridian_bus::valkey::{EVENTS_KEPT, EVENTS_KEPT_HOWEVER_OLD, EVENTS_KEPT_UNREAD};

use crate::server::Server;
use crate::zone::{WEST, World, Zone, until};

/// Entries of which a stream takes all away at once, or none, at most.
const NODE: usize = 100;
/// More than the time that passes within a test.
const A_WHILE: Duration = Duration::from_secs(60);

/// A zone that publishes into a stream that a test has filled.
struct Stream {
    _server: Server,
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
            _server: server,
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

    /// Takes away what nobody needs any more, as a zone would that keeps so many however old they are; how many are left, and how many are lost to a group.
    fn trim(&mut self, kept: usize) -> (usize, usize) {
        let mut trim = redis::cmd("EVAL");
        trim.arg(include_str!("../../src/valkey/lua/trim.lua"));
        trim.arg(1).arg(&self.key);
        let ages = [EVENTS_KEPT, EVENTS_KEPT_UNREAD].map(|kept| kept.as_millis() as u64);
        trim.arg(&ages[..]).arg(kept).query(&mut self.raw).unwrap()
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
fn what_a_group_has_not_read_for_long_goes_where_there_are_many() {
    let mut stream = Stream::new();
    stream.begin_group("gone");
    let (old, newer) = (5 * NODE, 3 * NODE);
    stream.fill(old, EVENTS_KEPT_UNREAD + A_WHILE);
    stream.fill(newer, EVENTS_KEPT_UNREAD - A_WHILE);
    assert_eq!(stream.trim(old + newer), (old + newer, 0), "there are not many");
    let (length, lost) = stream.trim(newer);
    assert!((newer..=newer + NODE).contains(&length), "{length} are left");
    assert_eq!(length + lost, old + newer, "what is gone is told");
    assert_eq!(stream.trim(newer), (length, 0));
}

#[test]
fn what_is_old_goes_until_there_are_not_many_any_more() {
    let mut stream = Stream::new();
    stream.begin_group("gone");
    let (all, kept) = (9 * NODE, 5 * NODE);
    stream.fill(all, EVENTS_KEPT_UNREAD + A_WHILE);
    let (length, lost) = stream.trim(kept);
    assert!((kept..=kept + NODE).contains(&length), "{length} are left");
    assert_eq!(length + lost, all);
    assert_eq!(stream.trim(kept), (length, 0));
}

#[test]
fn what_somebody_reads_still_is_kept_with_all_that_came_after_it_while_they_are_not_many() {
    let mut stream = Stream::new();
    stream.begin_group("stuck");
    let all = 5 * NODE;
    stream.fill(all, EVENTS_KEPT_UNREAD + A_WHILE);
    let read = stream.read("stuck", all);
    stream.acknowledge("stuck", &read[..NODE]);
    stream.acknowledge("stuck", &read[NODE + 1..]);
    let (length, lost) = stream.trim(all);
    assert_eq!(lost, 0, "what is before it goes, and is not lost");
    assert!((all - NODE..=all).contains(&length), "{length} are left");
}

#[test]
fn of_what_is_old_only_that_is_lost_which_some_group_was_not_done_with() {
    let mut stream = Stream::new();
    stream.begin_group("slow");
    let (read, unread) = (2 * NODE + 7, 3 * NODE);
    stream.fill(read + unread, EVENTS_KEPT_UNREAD + A_WHILE);
    let done = stream.read("slow", read);
    stream.acknowledge("slow", &done);
    let (mut length, mut lost) = (usize::MAX, 0);
    until("nothing more goes", || {
        let trimmed = stream.trim(0);
        lost += trimmed.1;
        std::mem::replace(&mut length, trimmed.0) == trimmed.0
    });
    assert_eq!(length + lost, unread, "what it has read is not lost");
    assert!(length <= NODE, "{length} are left");
}

#[test]
fn a_zone_has_what_is_old_taken_away_of_many() {
    let mut stream = Stream::new();
    stream.begin_group("gone");
    let many = EVENTS_KEPT_HOWEVER_OLD + 5 * NODE;
    stream.fill(many, EVENTS_KEPT_UNREAD + A_WHILE);
    stream.publish();
    let left = EVENTS_KEPT_HOWEVER_OLD..=EVENTS_KEPT_HOWEVER_OLD + NODE;
    assert!(left.contains(&stream.length()), "{} are left", stream.length());
}

#[test]
fn a_zone_hears_how_many_follow_it_how_many_wait_for_it_and_how_many_events_are_kept() {
    let mut stream = Stream::new();
    stream.fill(3, Duration::ZERO);
    let zone = stream.key.replace(":events", ":zone:0");
    let mut look = redis::cmd("EVAL");
    look.arg(include_str!("../../src/valkey/lua/followed.lua")).arg(3);
    look.arg(format!("{zone}:followers"))
        .arg(format!("{zone}:inbox"))
        .arg(&stream.key);
    assert_eq!(look.query::<[u64; 3]>(&mut stream.raw), Ok([0, 0, 3]));
}
