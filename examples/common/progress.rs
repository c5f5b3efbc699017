//! Progress on standard error: a bar on a terminal, a line every 10 % in a log, nothing with `--quiet`.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Not at all (`--quiet`, and every rank but 0).
    Silent,
    /// One line every 10 %.
    Lines,
    /// A bar that is drawn over itself.
    Bar,
}

impl Mode {
    /// What suits this process: only rank 0 talks, and draws only on a terminal.
    pub fn choose(rank: usize, quiet: bool) -> Mode {
        match (rank, quiet) {
            (0, false) if std::io::stderr().is_terminal() => Mode::Bar,
            (0, false) => Mode::Lines,
            _ => Mode::Silent,
        }
    }
}

struct State {
    shown_at: Option<Instant>,
    tenth: u64,
    /// When the next line of a stretch without a known end is due, and how long it is from there to the one after it.
    due: Duration,
    pause: Duration,
    out: Box<dyn Write + Send>,
}

/// How long a log waits for the first line of a stretch without a known end. It waits twice as long for each line after it,
const PAUSE: Duration = Duration::from_secs(2);
/// and so long at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A bar is drawn again after so long.
const REDRAW: Duration = Duration::from_millis(80);

/// The progress of one stretch of work. Any thread may report.
pub struct Progress {
    title: String,
    mode: Mode,
    start: Instant,
    silence: Duration,
    state: Mutex<State>,
}

impl Progress {
    /// Starts the clock; `title` begins every line (`kmeans: read`).
    pub fn new(title: &str, mode: Mode) -> Self {
        Self::with_output(title, mode, Box::new(std::io::stderr()))
    }

    /// The same, written to `out`.
    pub fn with_output(title: &str, mode: Mode, out: Box<dyn Write + Send>) -> Self {
        let state = Mutex::new(State { shown_at: None, tenth: 0, due: PAUSE, pause: PAUSE, out });
        Progress { title: title.to_owned(), mode, start: Instant::now(), silence: Duration::ZERO, state }
    }

    /// Shows nothing before `silence` has passed: for stretches that are usually too short to be worth a line.
    pub fn after(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Reports that `done` of `total` is done. `note` is called only if something will be shown.
    pub fn tick(&self, done: u64, total: u64, note: impl FnOnce() -> String) {
        if self.mode == Mode::Silent || total == 0 || self.start.elapsed() < self.silence {
            return;
        }
        let Ok(mut state) = self.state.lock() else { return };
        let left =
            self.start.elapsed().as_secs_f64() * total.saturating_sub(done) as f64 / done.max(1) as f64;
        let eta = seconds(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX));
        let share = |of: u64| (u128::from(done) * u128::from(of) / u128::from(total)) as u64;
        let percent = share(100);
        // A closed standard error is no reason to stop a computation.
        if self.mode == Mode::Bar {
            if state.shown_at.is_some_and(|t| t.elapsed() < REDRAW) && done < total {
                return;
            }
            let bar: String = (0..24).map(|i| if i * 100 < percent * 24 { '#' } else { '.' }).collect();
            let line = format!("{} [{bar}] {percent:3} %  {}  ETA {eta}", self.title, note());
            let _ = write!(state.out, "\r\x1b[2K{}", line.chars().take(columns()).collect::<String>());
            let _ = state.out.flush();
            state.shown_at = Some(Instant::now());
        } else if share(10) > state.tenth {
            state.tenth = share(10);
            let _ = writeln!(state.out, "{}: {percent:3} %  {}  ETA {eta}", self.title, note());
        }
    }

    /// Reports how far work is of which nobody knows how much there is. A terminal shows it all the time, a log now and then. `note` is
    /// called only if something will be shown.
    pub fn step(&self, note: impl FnOnce() -> String) {
        let time = self.start.elapsed();
        if self.mode == Mode::Silent || time < self.silence {
            return;
        }
        let Ok(mut state) = self.state.lock() else { return };
        if self.mode == Mode::Bar {
            if state.shown_at.is_none_or(|t| t.elapsed() >= REDRAW) {
                let line = format!("{} {}  {}", self.title, note(), seconds(time));
                let _ = write!(state.out, "\r\x1b[2K{}", line.chars().take(columns()).collect::<String>());
                let _ = state.out.flush();
                state.shown_at = Some(Instant::now());
            }
        } else if time >= state.due {
            state.pause = (2 * state.pause).min(LONGEST_PAUSE);
            let next = state.due + state.pause;
            state.due = if next < time { time + state.pause } else { next };
            let _ = writeln!(state.out, "{}: {}  {}", self.title, note(), seconds(time));
        }
    }

    /// Ends it: the bar is wiped away, and `line` (if not empty) stays.
    pub fn finish(&self, line: &str) {
        let Ok(mut state) = self.state.lock() else { return };
        if self.mode == Mode::Bar {
            let _ = write!(state.out, "\r\x1b[2K");
        }
        if self.mode != Mode::Silent && !line.is_empty() {
            let _ = writeln!(state.out, "{}: {line}", self.title);
        }
        let _ = state.out.flush();
    }
}

fn columns() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |w| usize::from(w.ws_col).max(20)) - 1
}

/// A duration in words: `3.25 ms`, `120 ms`, `1.25 s`, `12 s`, `3 min 20 s`, `2 h 05 min`.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(aeolian_examples::progress::seconds(Duration::from_secs(200)), "3 min 20 s");
/// ```
pub fn seconds(time: Duration) -> String {
    let s = time.as_secs();
    let ms = time.as_secs_f64() * 1e3;
    match s {
        0 if ms < 10.0 => format!("{ms:.2} ms"),
        0 => format!("{ms:.0} ms"),
        1..10 => format!("{:.2} s", time.as_secs_f64()),
        10..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn shown(mode: Mode) -> String {
        let out = Shared::default();
        let progress = Progress::with_output("t", mode, Box::new(out.clone()));
        (1..=1000).for_each(|i| progress.tick(i, 1000, || format!("step {i}")));
        progress.finish("done");
        String::from_utf8(out.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn without_a_known_end_lines_get_rare() {
        let out = Shared::default();
        let mut progress = Progress::with_output("t", Mode::Lines, Box::new(out.clone()));
        for second in 0..300 {
            let Some(start) = Instant::now().checked_sub(Duration::from_secs(second)) else { return };
            progress.start = start;
            progress.step(|| format!("at {second}"));
        }
        let log = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let told: Vec<&str> = log.lines().filter_map(|l| l.split("  ").next()).collect();
        let times = [2, 6, 14, 30, 62, 122, 182, 242];
        assert_eq!(told, times.map(|second| format!("t: at {second}")), "{log}");
    }

    #[test]
    fn ten_lines_in_a_log_a_bar_on_a_terminal_nothing_when_quiet() {
        let log = shown(Mode::Lines);
        assert_eq!(log.lines().count(), 11, "{log}");
        assert!(log.starts_with("t:  10 %  step 100  ETA ") && log.ends_with("t: done\n"), "{log}");
        let bar = shown(Mode::Bar);
        assert!(bar.starts_with("\r\x1b[2Kt [") && bar.contains("100 %  step 1000"), "{bar}");
        assert_eq!(shown(Mode::Silent), "");
    }
}
