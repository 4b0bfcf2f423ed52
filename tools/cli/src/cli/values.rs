//! Values of options and arguments, read from text.

use std::time::Duration;

use super::WatchedArea;

/// Longest `--timeout`: servers give a call no more.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// Longest `--seconds`, and longest `wait` of `play`.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Farthest walk of one command, in metres: from end to end of a large world, and thirty minutes on foot.
const METRES_MAX: f32 = 10_000.0;

/// Reads `500ms`, `10s`, `1.5s`, `2m`, or a number of seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit_s) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1e-3)
    } else if let Some(number) = text.strip_suffix('s') {
        (number, 1.0)
    } else if let Some(number) = text.strip_suffix('m') {
        (number, 60.0)
    } else {
        (text, 1.0)
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * unit_s);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match duration {
        Some(duration) if !duration.is_zero() && duration <= DURATION_MAX => Ok(duration),
        _ => Err("a duration is a number above 0 with ms, s or m, of a day at most, such as 500ms or 10s".to_owned()),
    }
}

/// Reads a duration that an answer may take.
pub(super) fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text)?;
    if timeout > TIMEOUT_MAX {
        return Err(format!(
            "an answer takes {} s at most: servers give a call up then",
            TIMEOUT_MAX.as_secs()
        ));
    }
    Ok(timeout)
}

/// Takes `127.0.0.1:7650` too. TLS is not spoken: the API is for the machine or the private network of the servers.
pub(super) fn parse_url(text: &str) -> Result<String, String> {
    let url = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let uri: tonic::codegen::http::Uri = url.parse().map_err(|error| format!("this is no address: {error}"))?;
    if uri.scheme_str() != Some("http") {
        return Err("an address begins with http://".to_owned());
    }
    if uri
        .authority()
        .is_none_or(|authority| authority.host().is_empty() || authority.as_str().contains('@'))
    {
        return Err("an address names a host: http://127.0.0.1:7650".to_owned());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

pub(super) fn parse_name(text: &str) -> Result<String, String> {
    meridian_session::validate_name(text)
        .map(str::to_owned)
        .map_err(|error| error.to_string())
}

fn parse_number(text: &str) -> Option<f32> {
    text.trim().parse().ok().filter(|number: &f32| number.is_finite())
}

pub(super) fn parse_part(text: &str) -> Result<f32, String> {
    let part = parse_number(text).filter(|part| part.abs() <= 1.0);
    part.ok_or_else(|| "a part of full speed is a number from -1 to 1".to_owned())
}

pub(super) fn parse_metres(text: &str) -> Result<f32, String> {
    let metres = parse_number(text).filter(|metres| *metres > 0.0 && *metres <= METRES_MAX);
    metres.ok_or_else(|| format!("metres are a number above 0, at most {METRES_MAX}"))
}

pub(super) fn parse_area(text: &str) -> Result<WatchedArea, String> {
    let numbers: Vec<_> = text.split(',').map(parse_number).collect();
    match *numbers.as_slice() {
        [Some(min_x), Some(min_z), Some(max_x), Some(max_z)] if min_x <= max_x && min_z <= max_z => Ok(WatchedArea {
            min_x,
            min_z,
            max_x,
            max_z,
        }),
        _ => Err("an area is four numbers, x0,z0,x1,z1, with x0 <= x1 and z0 <= z1, such as -10,-10,10,10".to_owned()),
    }
}

pub(super) fn parse_entity(text: &str) -> Result<u64, String> {
    let id = match text.strip_prefix('e') {
        // The parser of numbers takes a plus, an id has none.
        Some(digits) if digits.starts_with('+') => None,
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    id.ok_or_else(|| "an entity is e and hexadecimal digits, as in e1000100000001, or a number".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_completed_and_checked() {
        assert_eq!(parse_url("127.0.0.1:7650"), Ok("http://127.0.0.1:7650".to_owned()));
        assert_eq!(parse_url("http://[::1]:7650/"), Ok("http://[::1]:7650".to_owned()));
        for wrong in [
            "",
            "https://127.0.0.1:7650",
            "http://",
            "http://a:b@c",
            "ftp://x",
            "http://a b",
        ] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("2", 2_000),
            ("1.5s", 1_500),
            ("2m", 120_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for wrong in ["", "0", "-1s", "nan", "inf", "1h", "ms", "25000m", "1e300s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_answer_may_take_ten_seconds_and_no_longer() {
        assert_eq!(parse_timeout("10s"), Ok(TIMEOUT_MAX));
        assert_eq!(parse_timeout("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["10001ms", "1m", "0", "soon"] {
            assert!(parse_timeout(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn entities_are_named_as_results_name_them_or_as_numbers() {
        let shown = meridian_ids::WorldEntityId(0x1_0001_0000_0001).to_string();
        assert_eq!(parse_entity(&shown), Ok(0x1_0001_0000_0001));
        assert_eq!(parse_entity("17"), Ok(17));
        for wrong in ["", "e", "e+1", "-1", "eg", "e11112222333344445"] {
            assert!(parse_entity(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn areas_are_four_numbers_in_order() {
        let area = WatchedArea {
            min_x: -10.0,
            min_z: -5.5,
            max_x: 10.0,
            max_z: 5.0,
        };
        assert_eq!(parse_area("-10,-5.5, 10,5"), Ok(area));
        for wrong in ["", "1,2,3", "1,2,3,4,5", "10,0,-10,0", "0,nan,1,1", "0,0,inf,1"] {
            assert!(parse_area(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_a_parser(text in ".{0,40}") {
            let _ = (parse_url(&text), parse_duration(&text), parse_entity(&text), parse_area(&text), parse_metres(&text));
        }
    }
}
