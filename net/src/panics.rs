//! Remembers the words of the last panic, so that whoever notices a rank's end can repeat them.

use std::sync::{Mutex, Once, PoisonError};

static LAST: Mutex<Option<String>> = Mutex::new(None);

/// From now on panics are remembered, besides being handled as before.
pub(crate) fn remember() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let text = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("a value that is no text");
            let place = info.location().map_or(String::new(), |l| format!(" at {}:{}", l.file(), l.line()));
            *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{text}{place}"));
            if !is_broken_pipe(text) {
                before(info);
            }
        }));
    });
}

/// `| head`: every program that prints ends so, and nobody wants to read of it.
pub(crate) fn is_broken_pipe(text: &str) -> bool {
    text.starts_with("failed printing to stdout: Broken pipe")
}

/// The last panic's message and place.
pub(crate) fn last() -> Option<String> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
