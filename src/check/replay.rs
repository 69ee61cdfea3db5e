//! The list schedule of one instance, computed again (the order is part of the rules).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ordered_float::OrderedFloat;

/// A request as its instance sees it. Times in seconds from the start of the plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Queued {
    pub(super) request: u32,
    pub(super) deadline: f64,
    pub(super) release: f64,
    /// b * T
    pub(super) slot_seconds: f64,
}

/// Puts `queue` into serving order and returns its finish times in that order.
///
/// `slots` slots open at `open`. Requests go by deadline, then longest, then row, each into the earliest free slot, not
/// before its release. Which of two equally free slots is taken changes no finish time, so slots have no names here.
pub(super) fn replay(queue: &mut [Queued], slots: usize, open: f64) -> Vec<f64> {
    queue.sort_unstable_by(|a, b| {
        a.deadline
            .total_cmp(&b.deadline)
            .then(b.slot_seconds.total_cmp(&a.slot_seconds))
            .then(a.request.cmp(&b.request))
    });
    // More slots than requests never matter: one that was never used is always among the earliest free.
    let slots = slots.clamp(1, queue.len().max(1));
    let mut free: BinaryHeap<Reverse<OrderedFloat<f64>>> =
        std::iter::repeat_n(Reverse(OrderedFloat(open)), slots).collect();
    let serve = |queued: &Queued| {
        let mut earliest = free.peek_mut()?;
        let finish = earliest.0.0.max(queued.release) + queued.slot_seconds;
        earliest.0 = OrderedFloat(finish);
        Some(finish)
    };
    queue.iter().filter_map(serve).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(request: u32, deadline: f64, release: f64, slot_seconds: f64) -> Queued {
        Queued { request, deadline, release, slot_seconds }
    }

    #[test]
    fn deadline_then_longest_then_row_each_into_the_earliest_slot() {
        let mut queue = [
            queued(0, 100.0, 0.0, 2.0),
            queued(1, 100.0, 0.0, 5.0),
            queued(2, 50.0, 0.0, 1.0),
            queued(3, 100.0, 0.0, 2.0),
        ];
        let finish = replay(&mut queue, 2, 10.0);
        let order: Vec<u32> = queue.iter().map(|queued| queued.request).collect();
        assert_eq!(order, [2, 1, 0, 3]);
        assert_eq!(finish, [11.0, 15.0, 13.0, 15.0]);
    }

    #[test]
    fn nothing_starts_before_its_release_and_a_wait_blocks_its_slot() {
        let mut queue = [queued(0, 10.0, 30.0, 1.0), queued(1, 20.0, 0.0, 4.0)];
        assert_eq!(replay(&mut queue, 1, 0.0), [31.0, 35.0]);
        assert_eq!(replay(&mut queue, 2, 0.0), [31.0, 4.0]);
        assert_eq!(replay(&mut queue, usize::MAX, 0.0), [31.0, 4.0]);
    }

    #[test]
    fn no_request_is_no_finish() {
        assert!(replay(&mut [], 8, 3.0).is_empty());
    }
}
