use super::*;
use proptest::prelude::*;

const DEMO: &str = include_str!("../../../../assets/data/world.toml");

/// Two groups of crates; comments and a name hold words that are keys too.
const SMALL: &str = r#"# crates, bounds, radius_m and mass_kg
name = "small: mass_kg = 0"
kill_below_m = -20.0
[bounds]
min = [-100.0, -100.0]
max = [100.0, 100.0]
[spawn] # centre = 0
centre = [0.0, 0.0, 0.0]
radius_m = 10.0
[[scenery]]
centre = [0.0, -1.0, 0.0]
size = [50.0, 2.0, 50.0]
[[crates]]
first = [8.0, 0.5, 8.0]
size = [1.0, 1.0, 1.0]
mass_kg = 20.0
[[crates]]
# size = 3 and mass_kg = 2
first = [-8.0, 0.5, 8.0]
count = [2, 3]
spacing_m = 3.0
size = [1.5, 1.5, 1.5]
mass_kg = 60.0
"#;

fn error_of(text: &str) -> String {
    WorldDefinition::parse(text, "world.toml")
        .expect_err("must be refused")
        .to_string()
}

#[test]
fn the_demo_world_is_valid_and_its_hash_is_stable() {
    let world = WorldDefinition::parse(DEMO, "world.toml").unwrap();
    assert_eq!(
        world.content_hash(),
        WorldDefinition::parse(DEMO, "elsewhere").unwrap().content_hash()
    );
    assert!(!world.crates.is_empty() && !world.scenery.is_empty());
}

#[test]
fn a_syntax_error_names_its_line() {
    let broken = DEMO.replacen("kill_below_m", "kill_below_m = =", 1);
    let line = DEMO.lines().position(|line| line.starts_with("kill_below_m")).unwrap() + 1;
    assert!(
        error_of(&broken).starts_with(&format!("world.toml:{line}: ")),
        "{}",
        error_of(&broken)
    );
}

#[test]
fn an_unknown_field_and_a_wrong_rate_are_named() {
    assert!(error_of(&format!("gravitas = 3\n{DEMO}")).contains("gravitas"));
    let rate = DEMO.replacen("tick_rate_hz = 60", "tick_rate_hz = 500", 1);
    assert!(error_of(&rate).contains("500 Hz is outside"), "{}", error_of(&rate));
}

#[test]
fn a_world_that_cannot_be_simulated_says_why_and_where() {
    let flat = DEMO.replacen("size = [", "size = [0.0, 1.0, 1.0] # [", 1);
    assert!(
        error_of(&flat).contains("size must be above 0.01 m"),
        "{}",
        error_of(&flat)
    );
    let far = DEMO.replacen("centre = [", "centre = [9e9, 0.0, 0.0] # [", 1);
    assert!(error_of(&far).contains("out of range"), "{}", error_of(&far));
}

#[test]
fn a_wrong_value_is_told_with_the_line_of_its_own_key() {
    WorldDefinition::parse(SMALL, "world.toml").unwrap();
    for (right, wrong, said) in [
        ("kill_below_m = -20.0", "kill_below_m = -9e9", "3: kill_below_m must"),
        ("max = [100.0", "max = [9e9", "6: bounds: x must lie"),
        ("min = [-100.0", "min = [100.0", "4: bounds: min x is not below"),
        ("[0.0, 0.0, 0.0]", "[0.0, -20.0, 0.0]", "8: spawn: centre lies below"),
        ("radius_m = 10.0", "radius_m = -1.0", "9: spawn: radius_m must be"),
        ("size = [50.0", "size = [0.0", "12: scenery 1 (\"\"): size must be"),
        ("first = [8.0", "first = [9e9", "14: crates 1: first is out of range"),
        ("size = [1.0", "size = [0.0", "15: crates 1: size must be"),
        ("mass_kg = 60.0", "mass_kg = 0.0", "23: crates 2: mass_kg must be"),
        ("size = [1.5", "size = [0.0", "22: crates 2: size must be"),
        (
            "mass_kg = 20.0",
            "mass_kg = 20.0\nspacing_m = nan",
            "17: crates 1: spacing_m must",
        ),
    ] {
        let error = error_of(&SMALL.replacen(right, wrong, 1));
        assert!(error.starts_with(&format!("world.toml:{said}")), "{error}");
    }
}

#[test]
fn a_key_that_is_not_there_is_told_with_its_tables_line() {
    let inline = "crates = [\n  {},\n  { size = 1 },\n]\n";
    assert_eq!(line_of(SMALL, Place::within_nth("crates", 1, "colour")), Some(17));
    assert_eq!(line_of(SMALL, Place::within("spawn", "colour")), Some(7));
    assert_eq!(line_of(inline, Place::within_nth("crates", 1, "size")), Some(3));
    assert_eq!(line_of(SMALL, Place::within_nth("crates", 2, "size")), None);
    assert_eq!(line_of(SMALL, Place::top("colour")), None);
}

#[test]
fn crates_past_every_count_are_refused() {
    // Times itself nearly 2^64: a second group makes the sum wrap, with the last count to exactly 0.
    let most = "count = [4294967295, 4294967295]";
    for second in [most, "count = [14329, 599479]"] {
        let text = SMALL.replacen("size = [1.0", &format!("{most}\nsize = [1.0"), 1);
        let error = error_of(&text.replacen("count = [2, 3]", second, 1));
        assert!(
            error.starts_with("world.toml:15: crates 1: ") && error.contains("at most 10000 are allowed"),
            "{error}"
        );
    }
    let error = error_of(&SMALL.replacen("count = [2, 3]", "count = [100, 100]", 1));
    assert!(error.starts_with("world.toml:20: crates 2: 10001 crates"), "{error}");
}

#[test]
fn every_crate_must_be_in_range_and_apart() {
    for (right, wrong, said) in [
        (
            "count = [2, 3]",
            "count = [2, 5]\nspacing_m = 9e3",
            "20: crates 2: the last crate",
        ),
        (
            "count = [2, 3]",
            "count = [5, 2]\nspacing_m = 9e3",
            "20: crates 2: the last crate",
        ),
        (
            "count = [2, 3]",
            "spacing_m = -1.0\ncount = [1, 2]",
            "20: crates 2: spacing_m must be above 0",
        ),
        (
            "count = [2, 3]",
            "spacing_m = 0.0\ncount = [2, 1]",
            "20: crates 2: spacing_m must be above 0",
        ),
    ] {
        let error = error_of(&SMALL.replace("spacing_m = 3.0\n", "").replacen(right, wrong, 1));
        assert!(error.starts_with(&format!("world.toml:{said}")), "{error}");
    }
    let one = SMALL.replace("count = [2, 3]", "count = [1, 1]");
    WorldDefinition::parse(&one.replace("spacing_m = 3.0", "spacing_m = 0.0"), "world.toml").unwrap();
}

#[test]
fn nobody_appears_beyond_the_bounds() {
    for (right, wrong) in [
        ("radius_m = 10.0", "radius_m = 100.5"),
        ("radius_m = 10.0", "radius_m = 3e38"),
        ("min = [-100.0, -100.0]", "min = [-100.0, -9.5]"),
        ("max = [100.0, 100.0]", "max = [9.5, 100.0]"),
    ] {
        let error = error_of(&SMALL.replacen(right, wrong, 1));
        assert!(
            error.starts_with("world.toml:9: spawn: ") && error.contains("beyond the bounds"),
            "{error}"
        );
    }
}

#[test]
fn a_missing_file_says_what_to_do() {
    let error = WorldDefinition::load(Path::new("/nonexistent/world.toml"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("--world FILE"), "{error}");
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(cut in 0usize..4096, junk in "[ -~\n]{0,20}") {
        let cut = DEMO.floor_char_boundary(cut.min(DEMO.len()));
        let text = format!("{}{junk}{}", &DEMO[..cut], &DEMO[cut..]);
        if let Err(error) = WorldDefinition::parse(&text, "world.toml") {
            prop_assert!(error.to_string().starts_with("world.toml"));
        }
    }
}

fn with_zones(zones: &[(&str, [f32; 4])]) -> String {
    let zone = |(name, [x0, z0, x1, z1]): &(&str, [f32; 4])| {
        format!("[[zones]]\nname = {name:?}\nmin = [{x0:?}, {z0:?}]\nmax = [{x1:?}, {z1:?}]\n")
    };
    SMALL.to_owned() + &zones.iter().map(zone).collect::<String>()
}

#[test]
fn a_world_without_zones_is_one_and_that_of_the_demo_is_four() {
    let small = WorldDefinition::parse(SMALL, "world.toml").unwrap();
    assert_eq!(small.zone_map().ids().len(), 1);
    assert_eq!(small.zone_name(ZoneId(0)), small.name);
    let demo = WorldDefinition::parse(DEMO, "world.toml").unwrap();
    let map = demo.zone_map();
    let names: Vec<_> = map.ids().map(|zone| demo.zone_name(zone)).collect();
    assert_eq!(names, ["north-west", "north-east", "south-west", "south-east"]);
    assert_eq!(demo.zone_name(map.zone_at([30.0, -30.0])), "north-east");
}

#[test]
fn zones_that_are_no_map_are_told_with_their_line() {
    let west = ("west", [-100.0, -100.0, 0.0, 100.0]);
    let east = ("east", [0.0, -100.0, 100.0, 100.0]);
    assert!(WorldDefinition::parse(&with_zones(&[west, east]), "world.toml").is_ok());
    let cases = [
        ([west, ("east", [-30.0, -100.0, 100.0, 100.0])], "overlap", 1),
        ([west, ("east", [0.0, -100.0, 100.0, 70.0])], "3000.00 square", 0),
        ([west, ("east", [0.0, -100.0, 130.0, 100.0])], "beyond the bounds", 1),
        ([west, ("east", [0.0, -100.0, 10.0, 100.0])], "24 m or more", 1),
        (
            [west, ("east", [0.0, -100.0, f32::NAN, 100.0])],
            "min must be below max",
            1,
        ),
        ([west, ("west", east.1)], "another zone has this name", 1),
        ([west, ("far east", east.1)], "letters, digits", 1),
    ];
    for (zones, expected, nth) in cases {
        let text = with_zones(&zones).replace("NaN", "nan");
        let error = error_of(&text);
        let line: usize = error.split(':').nth(1).unwrap().parse().unwrap();
        let header = text.lines().enumerate().filter(|(_, line)| *line == "[[zones]]");
        let start = header.map(|(line, _)| line + 1).nth(nth).unwrap();
        assert!(error.contains(expected), "{error} is not about {expected}");
        assert!(
            (start..start + 4).contains(&line),
            "{error} is not in the zone at line {start}"
        );
    }
}

#[test]
fn scenery_across_a_border_belongs_to_both_zones_and_scenery_in_none_is_refused() {
    let demo = WorldDefinition::parse(DEMO, "world.toml").unwrap();
    let map = demo.zone_map();
    let touched = |name: &str| {
        let scenery = demo.scenery.iter().find(|scenery| scenery.name == name).unwrap();
        let touches = |zone: &ZoneId| map.area(*zone).unwrap().distance_to(&scenery.extent()) == 0.0;
        map.ids().filter(touches).count()
    };
    assert_eq!(
        (touched("ground"), touched("north wall"), touched("low wall")),
        (4, 2, 1)
    );
    let outside = SMALL.replacen("centre = [0.0, -1.0, 0.0]", "centre = [300.0, -1.0, 0.0]", 1);
    assert!(
        error_of(&outside).contains("no zone would have it"),
        "{}",
        error_of(&outside)
    );
}

#[test]
fn a_tied_row_is_no_longer_than_borders_can_bear() {
    let tied = |columns: u32| {
        let row = format!("count = [{columns}, 3]\nspacing_m = 1.5\ntied = true");
        SMALL.replacen("count = [2, 3]\nspacing_m = 3.0", &row, 1)
    };
    assert!(WorldDefinition::parse(&tied(3), "world.toml").is_ok());
    assert!(
        error_of(&tied(4)).contains("crosses borders as one"),
        "{}",
        error_of(&tied(4))
    );
}
