//! How the view looks: a line about the world, the map, the table, a line about keys.

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::canvas::{Canvas, Rectangle};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};

use super::{Seen, WatchState};

/// From this width on map and table are side by side.
const SIDE_BY_SIDE_COLUMNS: u16 = 110;
/// Width of the table then.
const TABLE_COLUMNS: u16 = 66;
/// How the player's own entity is drawn.
const OWN: &str = "@";
/// How others are.
const OTHER: &str = "o";

impl WatchState {
    /// Draws everything as it is at `now`.
    pub fn draw(&self, frame: &mut Frame<'_>, now: Instant) {
        let rows = Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]);
        let [title, middle, keys] = rows.areas(frame.area());
        let parts = if middle.width >= SIDE_BY_SIDE_COLUMNS {
            Layout::horizontal([Constraint::Min(0), Constraint::Length(TABLE_COLUMNS)])
        } else {
            Layout::vertical([Constraint::Percentage(55), Constraint::Percentage(45)])
        };
        let [map, table] = parts.areas(middle);
        frame.render_widget(self.title(), title);
        self.draw_map(frame, map);
        self.draw_table(frame, table, now);
        let help = format!("q quits   up, down, page up, page down scroll   {OWN} is you");
        frame.render_widget(Paragraph::new(help).style(Style::new().fg(Color::DarkGray)), keys);
    }

    fn title(&self) -> Paragraph<'_> {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let mut spans = vec![
            Span::styled(self.world.as_str(), bold),
            Span::raw(format!("   {} zones, {} entities", self.zones.len(), self.seen.len())),
        ];
        if self.hidden > 0 {
            spans.push(Span::styled(
                "   more than can be shown",
                Style::new().fg(Color::Yellow),
            ));
        }
        if self.missed > 0 {
            let missed = format!("   {} answers missed", self.missed);
            spans.push(Span::styled(missed, Style::new().fg(Color::Yellow)));
        }
        Paragraph::new(Line::from(spans))
    }

    /// North is up: the canvas counts upward what the world counts southward.
    fn draw_map(&self, frame: &mut Frame<'_>, area: Rect) {
        let bounds = self.bounds();
        let [west, north, east, south] = [bounds.min_x, bounds.min_z, bounds.max_x, bounds.max_z].map(f64::from);
        let canvas = Canvas::default()
            .block(Block::bordered().title("map, north is up"))
            .marker(Marker::Braille)
            .x_bounds([west, east])
            .y_bounds([-south, -north])
            .paint(|map| {
                for zone in self.zones.values() {
                    let [x, z, right, bottom] =
                        [zone.area.min_x, zone.area.min_z, zone.area.max_x, zone.area.max_z].map(f64::from);
                    map.draw(&Rectangle {
                        x,
                        y: -bottom,
                        width: right - x,
                        height: bottom - z,
                        color: Color::DarkGray,
                    });
                }
                map.layer();
                for zone in self.zones.values() {
                    let middle = f64::from(zone.area.min_x) * 0.75 + f64::from(zone.area.max_x) * 0.25;
                    let height = -(f64::from(zone.area.min_z) * 0.9 + f64::from(zone.area.max_z) * 0.1);
                    map.print(
                        middle,
                        height,
                        Line::styled(zone.name.clone(), Style::new().fg(Color::Blue)),
                    );
                }
                let is_own = |entity: u64| Some(entity) == self.own;
                // The own entity last, above who stands at the same place.
                let others = self.seen.values().filter(|seen| !is_own(seen.place.entity_id));
                let own = self.own.and_then(|own| self.seen.get(&own));
                for seen in others.chain(own) {
                    let (sign, color) = match is_own(seen.place.entity_id) {
                        true => (OWN, Color::Green),
                        false => (OTHER, Color::White),
                    };
                    let (x, z) = (f64::from(seen.place.x), f64::from(seen.place.z));
                    map.print(x, -z, Line::styled(sign, Style::new().fg(color)));
                }
            });
        frame.render_widget(canvas, area);
    }

    fn draw_table(&self, frame: &mut Frame<'_>, area: Rect, now: Instant) {
        // The borders and the heading; a screen never shows more rows than it has lines.
        let visible = usize::from(area.height.saturating_sub(3));
        let rows = self
            .seen
            .values()
            .skip(self.first_row)
            .take(visible)
            .map(|seen| self.row(seen, now));
        let widths = [
            Constraint::Length(16),
            Constraint::Min(8),
            Constraint::Length(9),
            Constraint::Length(21),
            Constraint::Length(8),
        ];
        let right = |text: &'static str| Cell::from(Line::from(text).alignment(Alignment::Right));
        let heading = [
            Cell::from("entity"),
            Cell::from("zone"),
            right("tick"),
            right("x, y, z"),
            right("age"),
        ];
        let title = match self.seen.len() {
            0 => "nobody is seen yet".to_owned(),
            entities => format!("from {} of {entities}", self.first_row + 1),
        };
        let table = Table::new(rows, widths)
            .header(Row::new(heading).style(Style::new().add_modifier(Modifier::BOLD)))
            .block(Block::bordered().title(title));
        frame.render_widget(table, area);
    }

    fn row(&self, seen: &Seen, now: Instant) -> Row<'static> {
        let place = &seen.place;
        let age = seen.age.saturating_add(now.saturating_duration_since(seen.received));
        let right = |text: String| Cell::from(Line::from(text).alignment(Alignment::Right));
        let style = match Some(place.entity_id) == self.own {
            true => Style::new().fg(Color::Green),
            false => Style::new(),
        };
        let row = Row::new([
            Cell::from(place.entity.clone()),
            Cell::from(self.zone_name(place.zone)),
            right(place.tick.to_string()),
            right(format!("{:.1}, {:.1}, {:.1}", place.x, place.y, place.z)),
            right(age_in_words(age)),
        ]);
        row.style(style)
    }
}

fn age_in_words(age: Duration) -> String {
    match age.as_millis() {
        milliseconds @ 0..10_000 => format!("{milliseconds} ms"),
        _ => format!("{} s", age.as_secs()),
    }
}
