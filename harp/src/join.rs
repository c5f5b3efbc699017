//! Two futures at once, each polled whenever both are: those of this crate wake nobody, they are polled again with every
//! message (which is why the combinators of the futures crates, that may poll only what was woken, do not fit).

use crate::error::Result;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Both outcomes, or the first error.
pub(crate) async fn both<A, B>(
    a: impl Future<Output = Result<A>>,
    b: impl Future<Output = Result<B>>,
) -> Result<(A, B)> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut from_a, mut from_b) = (None, None);
    poll_fn(|cx| {
        if from_a.is_none()
            && let Poll::Ready(outcome) = a.as_mut().poll(cx)
        {
            match outcome {
                Ok(value) => from_a = Some(value),
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        if from_b.is_none()
            && let Poll::Ready(outcome) = b.as_mut().poll(cx)
        {
            match outcome {
                Ok(value) => from_b = Some(value),
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        match (from_a.take(), from_b.take()) {
            (Some(a), Some(b)) => Poll::Ready(Ok((a, b))),
            (a, b) => {
                (from_a, from_b) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}
