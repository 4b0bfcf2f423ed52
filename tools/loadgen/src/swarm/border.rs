//! What bots measure at borders of zones: how gapless they see others cross, and how far they are corrected themselves.

use bevy::math::{Vec3, Vec3Swizzles};
use meridian_client_net::{BorderCrossing, Correction};
use meridian_ids::ZoneMap;

use super::driver::Part;
use crate::histogram::FigureHistogram;
use crate::report::{Corrections, Report};

/// What happens within this distance of a border happens near it, in metres.
const NEAR_M: f32 = 2.0;
/// To what corrections are told apart, in centimetres: finer than the wire's grid.
const RESOLUTION_CM: f64 = 0.01;

/// Every how many bots watches how others cross borders, in scenarios about zones.
pub(super) const WATCHER_EVERY: usize = 4;

/// Whether a place is near a border of zones.
pub(super) fn is_near_border(zones: &ZoneMap, position: Vec3) -> bool {
    let point = position.xz().to_array();
    zones.near(zones.zone_at(point), point, NEAR_M).next().is_some()
}

/// What all bots measured at borders.
pub(super) struct BorderFigures {
    gaps_ticks: FigureHistogram,
    corrections_cm: FigureHistogram,
    near_border_cm: FigureHistogram,
}

impl Default for BorderFigures {
    fn default() -> Self {
        Self {
            gaps_ticks: FigureHistogram::new(1.0),
            corrections_cm: FigureHistogram::new(RESOLUTION_CM),
            near_border_cm: FigureHistogram::new(RESOLUTION_CM),
        }
    }
}

impl BorderFigures {
    /// Counts what one bot has measured.
    pub(super) fn record(&mut self, crossings: &[BorderCrossing], corrections: &[Correction], zones: &ZoneMap) {
        for crossing in crossings {
            self.gaps_ticks.record(f64::from(crossing.gap_ticks));
        }
        for correction in corrections {
            let distance_cm = f64::from(correction.distance_m) * 1e2;
            self.corrections_cm.record(distance_cm);
            if is_near_border(zones, correction.position) {
                self.near_border_cm.record(distance_cm);
            }
        }
    }

    /// Writes the figures into the report; those of corrections where players were predicted.
    pub(super) fn fill(&self, report: &mut Report, part: &Part, predict: bool) {
        report.handoffs.observer_gap_ticks = self.gaps_ticks.summary();
        report.respawns = Some(part.respawns);
        let (all, near) = (self.corrections_cm.summary(), self.near_border_cm.summary());
        // Nobody was corrected where somebody was compared: that is a measurement, and a good one.
        let none_near = (part.near_border_ticks > 0 && part.compared > 0).then_some(0.0);
        report.corrections = predict.then_some(Corrections {
            compared: part.compared,
            count: all.samples,
            p50_cm: all.p50,
            p99_cm: all.p99,
            max_cm: all.max,
            near_border_p99_cm: near.p99.or(none_near),
        });
    }
}

#[cfg(test)]
mod tests {
    use meridian_ids::{Rectangle, WorldEntityId};

    use super::*;

    fn zones() -> ZoneMap {
        let zone = |from: f32, to: f32| Rectangle {
            min: [from, -50.0],
            max: [to, 50.0],
        };
        ZoneMap::new(zone(-50.0, 50.0), vec![zone(-50.0, 0.0), zone(0.0, 50.0)]).unwrap()
    }

    fn part(compared: u64, near_border_ticks: u64) -> Part {
        Part {
            compared,
            near_border_ticks,
            ..Part::default()
        }
    }

    fn told(figures: &BorderFigures, part: &Part) -> Report {
        let mut report = Report::default();
        figures.fill(&mut report, part, true);
        report
    }

    #[test]
    fn corrections_near_a_border_are_told_apart() {
        let correction = |x: f32, distance_m: f32| Correction {
            distance_m,
            position: Vec3::new(x, 0.9, 7.0),
        };
        let mut figures = BorderFigures::default();
        figures.record(&[], &[correction(-1.9, 0.02), correction(30.0, 0.5)], &zones());
        let corrections = told(&figures, &part(600, 100)).corrections.unwrap();
        assert_eq!((corrections.compared, corrections.count), (600, 2));
        assert!(
            (corrections.near_border_p99_cm.unwrap() - 2.0).abs() < 1e-6,
            "{corrections:?}"
        );
        assert!((corrections.max_cm.unwrap() - 50.0).abs() < 0.1, "{corrections:?}");
    }

    #[test]
    fn without_corrections_there_is_a_zero_near_borders_only_if_somebody_was_there() {
        let near = |part: &Part| {
            told(&BorderFigures::default(), part)
                .corrections
                .unwrap()
                .near_border_p99_cm
        };
        assert_eq!(near(&part(600, 100)), Some(0.0));
        assert_eq!(near(&part(600, 0)), None);
        assert_eq!(near(&part(0, 100)), None);
        let mut unpredicted = Report::default();
        BorderFigures::default().fill(&mut unpredicted, &part(0, 100), false);
        assert_eq!((unpredicted.corrections, unpredicted.respawns), (None, Some(0)));
    }

    #[test]
    fn each_crossing_is_a_sample_of_its_longest_gap() {
        let crossing = |gap_ticks| BorderCrossing {
            entity: WorldEntityId(1),
            gap_ticks,
        };
        let mut figures = BorderFigures::default();
        figures.record(&[crossing(1), crossing(1), crossing(3)], &[], &zones());
        let gaps = told(&figures, &Part::default()).handoffs.observer_gap_ticks;
        assert_eq!((gaps.samples, gaps.p50, gaps.max), (3, Some(1.0), Some(3.0)));
    }
}
