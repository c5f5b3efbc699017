//! Two fences of unequal weight, for a handshake whose one side is at work all the time and whose other side rarely comes.
//!
//! A full fence waits until other cores have given up the lines that were written before it, which takes as long as a hand-over between
//! cores: for a rank that publishes something and then looks whether anybody sleeps, that would be half of a small collective. So the
//! sleeper pays: before it looks for work a last time, it has the system put a full fence on every core that runs a
//! program of ours (`membarrier`, Linux 4.16). Where that is not to be had, both sides put full fences.

use rustix::thread::{MembarrierCommand, membarrier};
use std::sync::OnceLock;
use std::sync::atomic::{Ordering, compiler_fence, fence};

/// Whether the system puts fences on the cores of this process for others, and for others on its behalf.
pub(crate) fn can_be_light() -> bool {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(|| membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok())
}

/// Of the side that rarely comes: between its store and its load.
pub(crate) fn heavy() {
    fence(Ordering::SeqCst);
    if can_be_light() {
        // It has worked when it was asked for; a failure now would be one of the kernel.
        let _ = membarrier(MembarrierCommand::GlobalExpedited);
    }
}

/// Of the side that is at work: between its store and its load. `light` only if all whom it concerns [can](can_be_light).
pub(crate) fn at_work(light: bool) {
    if light {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}
