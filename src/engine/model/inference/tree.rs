//! Sequences that begin alike, as runs that are computed once.

use std::ops::Range;

use super::runs::{Before, Runs};
use crate::model::Continuation;

/// Shared beginnings shorter than this are computed again for each sequence: following another run costs as much.
const LEAST_SHARED: usize = 8;

/// Runs that hold some sequences.
#[derive(Debug, Default)]
pub(super) struct Grown {
    /// The runs.
    pub(super) runs: Runs,
    /// For each sequence the elements of its runs, first to last.
    pub(super) paths: Vec<(usize, Vec<usize>)>,
    /// Row of each run's first wanted token among all wanted ones.
    first_rows: Vec<usize>,
}

impl Grown {
    /// Rows, among the wanted tokens, of the last `count` tokens of a path.
    pub(super) fn rows<'a>(&'a self, path: &'a [usize], count: usize) -> impl Iterator<Item = usize> + 'a {
        let length: usize = path.iter().map(|run| self.runs.list[*run].tokens.len()).sum();
        let mut skipped = length - count;
        path.iter().flat_map(move |number| {
            let run = &self.runs.list[*number];
            let from = skipped.min(run.tokens.len());
            skipped -= from;
            let unwanted = run.tokens.len() - run.wanted;
            (from..run.tokens.len()).map(move |place| self.first_rows[*number] + place - unwanted)
        })
    }
}

/// Cuts sequences, given in order of their tokens, into batches of at most `limit` tokens after sharing, or of one sequence.
pub(super) fn batches<'a>(
    sequences: &'a [Continuation<'_>],
    order: &'a [usize],
    limit: usize,
) -> impl Iterator<Item = &'a [usize]> {
    let mut rest = order;
    std::iter::from_fn(move || {
        let (mut tokens, mut before): (usize, &[u32]) = (0, &[]);
        let within = rest.iter().take_while(|index| {
            let read = sequences[**index].read();
            tokens += read.len() - common(before, read);
            before = read;
            tokens <= limit
        });
        let count = within.count().max(1).min(rest.len());
        let (batch, after) = rest.split_at(count);
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

/// Leading tokens that two sequences share.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Sequences that have the same tokens up to some place, of which runs hold those up to `held`.
struct Branch {
    members: Range<usize>,
    held: usize,
    path: Vec<usize>,
}

/// Grows the runs of sequences that are given in order of their tokens, and wants the predictions of their judged tokens.
pub(super) fn grow(sequences: &[Continuation<'_>], order: &[usize]) -> Grown {
    let read = |member: usize| sequences[order[member]].read();
    let mut grown = Grown::default();
    let mut open = vec![Branch { members: 0..order.len(), held: 0, path: Vec::new() }];
    while let Some(Branch { members, held, mut path }) = open.pop() {
        if members.is_empty() {
            continue;
        }
        // In order, what the first and the last share, all share.
        let (first, last) = (read(members.start), read(members.end - 1));
        let shared = common(first, last);
        let alike = shared == first.len() && shared == last.len();
        let mut held = held;
        if shared > held && (alike || shared - held >= LEAST_SHARED) {
            let before = path.last().map_or(Before::Nothing, |run| Before::Run(*run));
            path.push(grown.runs.push(&first[held..shared], before, held));
            held = shared;
        }
        if alike {
            for member in members {
                grown.paths.push((order[member], path.clone()));
            }
            continue;
        }
        // Those that end here come first in order; then a branch for each next token.
        let mut start = members.start;
        for member in members.start + 1..=members.end {
            if member == members.end || read(member).get(shared) != read(start).get(shared) {
                open.push(Branch { members: start..member, held, path: path.clone() });
                start = member;
            }
        }
    }
    want(sequences, &mut grown);
    grown
}

/// Wants what the judged tokens take, and elements the rows of all that is wanted.
fn want(sequences: &[Continuation<'_>], grown: &mut Grown) {
    for (sequence, path) in &grown.paths {
        let mut left = sequences[*sequence].judged().len();
        for run in path.iter().rev() {
            let taken = left.min(grown.runs.list[*run].tokens.len());
            grown.runs.want(*run, taken);
            left -= taken;
        }
    }
    let mut row = 0;
    for run in &grown.runs.list {
        grown.first_rows.push(row);
        row += run.wanted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_held_once_and_rows_found_again() {
        let long: Vec<u32> = (0..20).collect();
        let with = |length: usize, end: &[u32]| [&long[..length], end].concat();
        // Judged tokens within the shared part, an ending inside another, equal sequences, a stranger, a short relative.
        let texts = [
            with(20, &[50, 51, 52]),
            with(20, &[60]),
            with(20, &[]),
            with(12, &[70]),
            with(20, &[60]),
            vec![9, 8],
            with(3, &[1, 1]),
        ];
        let starts = [21, 20, 18, 12, 19, 1, 3];
        let sequences: Vec<Continuation<'_>> =
            texts.iter().zip(starts).map(|(tokens, start)| Continuation { tokens, start }).collect();
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|index| sequences[*index].read());
        let grown = grow(&sequences, &order);
        let wanted: Vec<usize> = grown.runs.wanted().flatten().collect();
        assert_eq!(grown.paths.len(), sequences.len());
        for (sequence, path) in &grown.paths {
            let sequence = sequences[*sequence];
            let tokens: Vec<usize> = path.iter().flat_map(|run| grown.runs.list[*run].tokens.clone()).collect();
            let ids: Vec<u32> = tokens.iter().map(|token| grown.runs.ids[*token]).collect();
            assert_eq!(ids, sequence.read());
            let rows: Vec<usize> = grown.rows(path, sequence.judged().len()).map(|row| wanted[row]).collect();
            assert_eq!(rows, tokens[tokens.len() - sequence.judged().len()..]);
            for (before, run) in path.iter().zip(&path[1..]) {
                assert_eq!(grown.runs.list[*run].before, Before::Run(*before));
                let previous = &grown.runs.list[*before];
                assert_eq!(grown.runs.list[*run].position, previous.position + previous.tokens.len());
            }
        }
        // Twelve tokens of the long beginning once; of its next eight, those who have all of them share them, and the one
        // that has seven doesn't, which is too few to share; the rest of the longest; the stranger and the short relative.
        assert_eq!(grown.runs.ids.len(), 12 + 8 + 7 + 2 + 1 + 4);
    }

    #[test]
    fn batches_hold_what_fits_and_at_least_one() {
        let texts: [&[u32]; 4] = [&[1, 2, 3, 4], &[1, 2, 3, 5, 6], &[1, 2, 9, 9, 9, 9], &[7, 7]];
        let sequences: Vec<Continuation<'_>> = texts.iter().map(|tokens| Continuation { tokens, start: 1 }).collect();
        let order = [0, 1, 2, 3];
        // Three tokens read of the first, one more of the second, three more of the third.
        let cut = |limit| batches(&sequences, &order, limit).map(<[usize]>::len).collect::<Vec<_>>();
        assert_eq!((cut(4), cut(7), cut(0), cut(99)), (vec![2, 1, 1], vec![3, 1], vec![1; 4], vec![4]));
    }
}
