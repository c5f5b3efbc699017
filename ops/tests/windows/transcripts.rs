//! Apache Beam's own transcripts, which its runners are tested by: as in its Python package 2.77.0, from YAML to JSON.
//!
//! Times there are whole numbers, and windows have their last ones: `[0, 9]` is `[0, 10)`. Beam's one key is `0`.

use aeolian_ops::windows::{List, Pane, Stamp, Time, Timing, When, Windowing, Windows};
use serde_json::Value;

const TRANSCRIPTS: &str = include_str!("trigger_transcripts.json");

/// What does not apply, by its own words.
const OTHERS: [(&str, &str); 2] = [
    // Window functions that make up times for panes.
    ("timestamp_combiner", "OUTPUT_AT_EARLIEST_TRANSFORMED"),
    // A trigger that fires once in all; what is looked at is what Beam's Python runner keeps.
    ("name", "garbage_collection"),
];

/// What was given.
#[derive(Debug)]
struct Given {
    window: (Time, Time),
    values: Vec<Time>,
    timing: Timing,
    index: u32,
    settled_index: u32,
    is_last: bool,
    time: Time,
}

impl Given {
    fn of(pane: Pane<'_, u8, Vec<Time>>) -> Given {
        let mut values = pane.value;
        values.sort_unstable();
        Given {
            window: (pane.window.start, pane.window.end - 1),
            values,
            timing: pane.timing,
            index: pane.index,
            settled_index: pane.settled_index,
            is_last: pane.is_last,
            time: pane.time,
        }
    }

    /// Whether it is what is expected, as far as that is said.
    fn is(&self, want: &Value) -> bool {
        want.as_object().unwrap().iter().all(|(key, value)| match &key[..] {
            "window" => numbers(value) == [self.window.0, self.window.1],
            "values" => numbers(value) == self.values,
            "timestamp" => value.as_i64().unwrap() == self.time,
            "index" => value.as_u64().unwrap() == u64::from(self.index),
            "nonspeculative_index" => value.as_u64().unwrap() == u64::from(self.settled_index),
            "early" => value.as_bool().unwrap() == (self.timing == Timing::Early),
            "late" => value.as_bool().unwrap() == (self.timing == Timing::Late),
            "final" => value.as_bool().unwrap() == self.is_last,
            other => panic!("not known: {other}"),
        })
    }
}

fn numbers(list: &Value) -> Vec<i64> {
    list.as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect()
}

/// The number in `Name(n)`.
fn number_in(text: &str, before: &str) -> Option<i64> {
    let rest = &text[text.find(before)? + before.len()..];
    rest[..rest.find(')')?].parse().ok()
}

fn windowing(case: &Value) -> Windowing {
    let says = |key: &str| case.get(key).and_then(|v| v.as_str()).unwrap_or("");
    // (One case that must fail anyway misspells it.)
    let shape = [says("window_fn"), says("windowfn")].concat();
    let windowing = match shape.strip_prefix("Custom").map_or(&shape[..], |s| &s[s.find("Fixed").unwrap()..])
    {
        s if s.starts_with("FixedWindows") => Windowing::tumbling(number_in(&shape, "(").unwrap()),
        s if s.starts_with("Sessions") => Windowing::sessions(number_in(s, "(").unwrap()),
        other => panic!("not known: {other}"),
    };
    let mut windowing = windowing.unwrap();
    let lateness = case.get("allowed_lateness").map_or(0, |n| n.as_i64().unwrap());
    windowing = windowing.allowed_lateness(lateness);
    let trigger = says("trigger_fn");
    assert!(["", "Default"].contains(&trigger) || trigger.starts_with("AfterWatermark("), "{trigger}");
    if let Some(n) = number_in(trigger, "early=AfterCount(") {
        windowing = windowing.early(When::Count(n as u64));
    }
    if let Some(n) = number_in(trigger, "late=AfterCount(") {
        windowing = windowing.late(When::Count(n as u64));
    }
    if says("accumulation_mode") == "discarding" {
        windowing = windowing.discarding();
    }
    windowing.stamp(match says("timestamp_combiner") {
        "" | "OUTPUT_AT_EOW" => Stamp::EndOfWindow,
        "OUTPUT_AT_EARLIEST" => Stamp::Earliest,
        "OUTPUT_AT_LATEST" => Stamp::Latest,
        other => panic!("not known: {other}"),
    })
}

/// What Beam would say of it.
fn play(case: &Value) -> Result<(), String> {
    let mut windows = Windows::new(windowing(case), List).unwrap();
    let mut given: Vec<Given> = Vec::new();
    for step in case.get("transcript").unwrap().as_array().unwrap() {
        let (action, what) = step.as_object().unwrap().iter().next().unwrap();
        if action != "expect" && !given.is_empty() {
            return Err(format!("Unexpected output: {given:?}"));
        }
        let mut emit = |pane: Pane<'_, u8, Vec<Time>>| given.push(Given::of(pane));
        match &action[..] {
            "input" => {
                for time in numbers(what) {
                    // What is too late is gone there without a word.
                    let _ = windows.insert(0u8, time, time, &mut emit);
                }
            }
            "watermark" => windows.advance(what.as_i64().unwrap(), &mut emit),
            "expect" => {
                for want in what.as_array().unwrap() {
                    let Some(at) = given.iter().position(|one| one.is(want)) else {
                        return Err(format!("Unmatched output: {want:?} among {given:?}"));
                    };
                    given.remove(at);
                }
                if !given.is_empty() {
                    return Err(format!("Unexpected output: {given:?}"));
                }
            }
            other => panic!("not known: {other}"),
        }
    }
    if given.is_empty() { Ok(()) } else { Err(format!("Unexpected output: {given:?}")) }
}

#[test]
fn of_apache_beam() {
    let (mut played, mut refused, mut others) = (0, 0, 0);
    let all: Value = serde_json::from_str(TRANSCRIPTS).unwrap();
    for case in all["transcripts"].as_array().unwrap() {
        let says = |key: &str| case.get(key).and_then(|v| v.as_str()).unwrap_or("");
        let name = says("name");
        if OTHERS.iter().any(|(key, value)| says(key) == *value) {
            others += 1;
            continue;
        }
        match (play(case), case.get("error").and_then(|v| v.as_str())) {
            (Ok(()), None) => played += 1,
            (Err(e), Some(error)) if e.starts_with(error) => refused += 1,
            (done, error) => panic!("{name}: {done:?}, not {error:?}"),
        }
    }
    assert_eq!((played, refused, others), (11, 5, 2));
}
