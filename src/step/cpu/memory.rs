//! One allocation with the arenas of one type of element, handed out as disjoint slices.

use nanochat_kernels::Stored;
use nanochat_plan::parameters::ALIGNMENT;

use crate::ops::{Arena, Region};

/// Most regions that one operation has.
const MOST_REGIONS: usize = 12;

/// How many arenas there may be.
const ARENAS: usize = 7;

/// Arenas one after the other.
#[derive(Debug)]
pub(super) struct Memory<S> {
    elements: Vec<S>,
    bases: [Option<usize>; ARENAS],
}

impl<S: Stored> Memory<S> {
    /// Arenas of these elements each, all zero.
    pub(super) fn new(arenas: impl Iterator<Item = (Arena, usize)>) -> Self {
        let mut bases = [None; ARENAS];
        let mut end: usize = 0;
        for (arena, elements) in arenas {
            bases[index(arena)] = Some(end);
            end = (end + elements).next_multiple_of(ALIGNMENT);
        }
        Self { elements: vec![S::default(); end], bases }
    }

    pub(super) fn bytes(&self) -> usize {
        std::mem::size_of_val(self.elements.as_slice())
    }

    fn start(&self, region: Region) -> usize {
        let base = self.bases[index(region.arena)];
        base.unwrap_or_else(|| unreachable!("{:?} is not here", region.arena)) + region.offset
    }

    pub(super) fn read(&self, region: Region) -> &[S] {
        &self.elements[self.start(region)..][..region.len]
    }

    pub(super) fn write(&mut self, region: Region) -> &mut [S] {
        let start = self.start(region);
        &mut self.elements[start..][..region.len]
    }

    /// All of some regions at once, for work on many of them side by side: disjoint, in the order given.
    pub(super) fn many(&mut self, regions: &[Region]) -> Vec<&mut [S]> {
        let mut order: Vec<usize> = (0..regions.len()).collect();
        let starts: Vec<usize> = regions.iter().map(|region| self.start(*region)).collect();
        order.sort_by_key(|index| starts[*index]);
        let mut pieces: Vec<Option<&mut [S]>> = regions.iter().map(|_| None).collect();
        let (mut rest, mut position) = (self.elements.as_mut_slice(), 0);
        for index in order {
            let (_, after) = std::mem::take(&mut rest).split_at_mut(starts[index] - position);
            let (piece, after) = after.split_at_mut(regions[index].len);
            pieces[index] = Some(piece);
            (rest, position) = (after, starts[index] + regions[index].len);
        }
        pieces.into_iter().flatten().collect()
    }

    /// Regions that an operation writes, and those it only reads. What is written shares no element with anything else; regions
    /// that are read may be the same.
    pub(super) fn split<const W: usize, const R: usize>(
        &mut self,
        written: [Region; W],
        read: [Region; R],
    ) -> ([&mut [S]; W], [&[S]; R]) {
        let mut order = [(0usize, 0usize, 0usize); MOST_REGIONS];
        let all = written.iter().chain(&read).enumerate();
        for (place, (number, region)) in order.iter_mut().zip(all) {
            *place = (self.start(*region), region.len, number);
        }
        let order = &mut order[..W + R];
        order.sort_unstable();
        let mut writes: [Option<&mut [S]>; W] = [const { None }; W];
        let mut reads: [Option<&[S]>; R] = [const { None }; R];
        let (mut rest, mut position) = (self.elements.as_mut_slice(), 0);
        let mut last: Option<(usize, usize, &[S])> = None;
        for (start, len, number) in order.iter().copied() {
            if let Some((_, _, piece)) = last.filter(|(at, size, _)| number >= W && (*at, *size) == (start, len)) {
                reads[number - W] = Some(piece);
                continue;
            }
            let (_, after) = std::mem::take(&mut rest).split_at_mut(start - position);
            let (piece, after) = after.split_at_mut(len);
            (rest, position) = (after, start + len);
            if number < W {
                (writes[number], last) = (Some(piece), None);
            } else {
                reads[number - W] = Some(piece);
                last = reads[number - W].map(|piece| (start, len, piece));
            }
        }
        (writes.map(Option::unwrap_or_default), reads.map(Option::unwrap_or_default))
    }
}

fn index(arena: Arena) -> usize {
    match arena {
        Arena::Weights => 0,
        Arena::Gradients => 1,
        Arena::First => 2,
        Arena::Second => 3,
        Arena::Activations => 4,
        Arena::Factors => 5,
        Arena::Losses => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(arena: Arena, offset: usize, len: usize) -> Region {
        Region { arena, offset, len }
    }

    #[test]
    fn regions_are_handed_out_by_their_place() {
        let mut memory = Memory::<f32>::new([(Arena::Weights, 10), (Arena::Activations, 100)].into_iter());
        memory.write(region(Arena::Weights, 2, 3)).fill(1.0);
        memory.write(region(Arena::Activations, 2, 3)).fill(2.0);
        let [a, b, c] =
            [region(Arena::Activations, 50, 4), region(Arena::Activations, 2, 3), region(Arena::Weights, 2, 3)];
        let ([a], [b1, c, b2]) = memory.split([a], [b, c, b]);
        assert_eq!((a.len(), b1, c, b2), (4, &[2.0; 3][..], &[1.0; 3][..], &[2.0; 3][..]));
        let pieces = memory.many(&[region(Arena::Activations, 2, 3), region(Arena::Weights, 2, 3)]);
        assert_eq!(pieces, [&[2.0; 3][..], &[1.0; 3][..]]);
    }

    #[test]
    #[should_panic]
    fn what_is_written_is_never_shared() {
        let mut memory = Memory::<f32>::new([(Arena::Activations, 100)].into_iter());
        memory.split([region(Arena::Activations, 0, 10)], [region(Arena::Activations, 5, 10)]);
    }
}
