//! The splits that could start, best first, and what may start now.
//!
//! Splits that ask for the same cores and memory wait in one line, ordered by their layer's rank (the longest path to the
//! end first), then by their place in the flow. Only the heads of the lines are compared, so that a choice costs as much
//! as there are different requests, not as there are splits. Unaware of states and events.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// What a task asks for; zero asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub(super) cpu_millis: u64,
    pub(super) memory: u64,
}

impl Request {
    fn fits(self, free: Request) -> bool {
        self.cpu_millis <= free.cpu_millis && self.memory <= free.memory
    }
}

/// How often the best split may be passed over by smaller ones that fit, before everything waits for it.
const PATIENCE: u32 = 16;

/// A split's place in its line: rank, then the smallest number.
type Place = (u32, Reverse<u32>);

#[derive(Debug, Default)]
pub(super) struct Ready {
    lines: Vec<Line>,
    by_request: HashMap<Request, usize>,
    passed_over: u32,
}

#[derive(Debug)]
struct Line {
    request: Request,
    heap: BinaryHeap<Place>,
}

impl Ready {
    pub(super) fn push(&mut self, number: u32, rank: u32, request: Request) {
        let lines = &mut self.lines;
        let at = *self.by_request.entry(request).or_insert_with(|| {
            lines.push(Line { request, heap: BinaryHeap::new() });
            lines.len() - 1
        });
        self.lines[at].heap.push((rank, Reverse(number)));
    }

    /// The split to start now, if one fits into what is free.
    pub(super) fn best(&self, free: Request) -> Option<u32> {
        let head = self.head()?;
        if self.lines[head].request.fits(free) {
            return self.peek(head);
        }
        if self.passed_over >= PATIENCE {
            return None;
        }
        self.peek(self.first(|line| line.request.fits(free))?)
    }

    /// The best split of all, whatever it asks for, if it has at least this rank.
    pub(super) fn best_of_rank(&self, rank: u32) -> Option<u32> {
        let (own, Reverse(number)) = self.lines[self.head()?].heap.peek()?;
        (*own >= rank).then_some(*number)
    }

    /// Takes a split out; it is at the head of its line, since only heads are told by [`Ready::best`].
    pub(super) fn take(&mut self, number: u32, request: Request) -> bool {
        let Some(at) = self.by_request.get(&request).copied() else { return false };
        if self.peek(at) != Some(number) {
            return false;
        }
        self.passed_over = if self.head() == Some(at) { 0 } else { self.passed_over + 1 };
        self.lines[at].heap.pop();
        true
    }

    /// Takes a split out wherever it stands in its line.
    pub(super) fn take_out(&mut self, number: u32, request: Request) -> bool {
        let Some(at) = self.by_request.get(&request).copied() else { return false };
        let heap = &mut self.lines[at].heap;
        let before = heap.len();
        heap.retain(|(_, Reverse(other))| *other != number);
        heap.len() < before
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.heap.is_empty())
    }

    pub(super) fn clear(&mut self) {
        for line in &mut self.lines {
            line.heap.clear();
        }
        self.passed_over = 0;
    }

    fn head(&self) -> Option<usize> {
        self.first(|_| true)
    }

    fn first(&self, wanted: impl Fn(&Line) -> bool) -> Option<usize> {
        let lines = self.lines.iter().enumerate().filter(|(_, line)| wanted(line));
        lines.filter_map(|(at, line)| line.heap.peek().map(|place| (*place, at))).max().map(|(_, at)| at)
    }

    fn peek(&self, at: usize) -> Option<u32> {
        self.lines[at].heap.peek().map(|(_, Reverse(number))| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Request = Request { cpu_millis: 1000, memory: 100 };
    const NOTHING: Request = Request { cpu_millis: 0, memory: 0 };
    const BIG: Request = Request { cpu_millis: 2000, memory: 0 };

    #[test]
    fn the_longest_path_goes_first_then_the_order_of_the_flow() {
        let mut ready = Ready::default();
        for (number, rank) in [(0, 1), (1, 3), (2, 3)] {
            ready.push(number, rank, NOTHING);
        }
        for expected in [1, 2, 0] {
            assert_eq!(ready.best(FREE), Some(expected));
            assert!(ready.take(expected, NOTHING));
        }
        assert_eq!(ready.best(FREE), None);
    }

    #[test]
    fn small_ones_pass_a_big_one_but_not_for_ever() {
        let mut ready = Ready::default();
        ready.push(0, 9, BIG);
        for number in 1..100 {
            ready.push(number, 1, NOTHING);
        }
        let mut passed = 0;
        while let Some(number) = ready.best(FREE) {
            assert!(ready.take(number, NOTHING));
            passed += 1;
        }
        assert_eq!(passed, PATIENCE);
        assert_eq!(ready.best(BIG), Some(0), "it starts as soon as it fits");
    }

    #[test]
    fn one_that_is_not_the_head_cannot_be_taken() {
        let mut ready = Ready::default();
        ready.push(0, 2, NOTHING);
        ready.push(1, 1, NOTHING);
        assert!(!ready.take(1, NOTHING));
        assert!(!ready.take(0, BIG));
    }
}
