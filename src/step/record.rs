//! Notes the operations of a step instead of carrying them out, and finds what would make them wrong on a device.

use std::collections::{BTreeMap, BTreeSet};

use super::ops::{Access, Arena, Batch, Coefficients, Op, Ops, Region};

/// The operations of a step, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorder {
    operations: Vec<(String, Access)>,
}

/// What is wrong with a sequence of operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hazard {
    /// An operation reads elements that none before it wrote.
    ReadBeforeWrite {
        /// The operation.
        operation: String,
        /// What it reads.
        region: Region,
    },
    /// An operation reads a region whose elements two operations wrote: the second overwrote part of what is read here.
    Overwritten {
        /// The operation.
        operation: String,
        /// What it reads.
        region: Region,
        /// The operations that wrote it.
        writers: Vec<String>,
    },
    /// An operation writes elements that another of its operands has.
    Aliased {
        /// The operation.
        operation: String,
        /// What it writes.
        written: Region,
        /// The other operand.
        other: Region,
    },
}

impl Ops for Recorder {
    fn load_batch(&mut self, _: Batch<'_>, _: f64) {}

    fn load_coefficients(&mut self, _: &Coefficients) {}

    fn run(&mut self, op: &Op<'_>) {
        let name = format!("{op:?}");
        let name = name.split([' ', '{']).next().unwrap_or_default().to_string();
        self.operations.push((name, op.access()));
    }
}

impl Recorder {
    /// Names of the operations with what they touch, in order.
    pub fn operations(&self) -> &[(String, Access)] {
        &self.operations
    }

    /// Everything wrong with the sequence, where the regions of `loaded` hold something from the start: operands that nothing
    /// wrote, operands of which a part was overwritten before they were read, and operations that write what they read.
    pub fn hazards(&self, loaded: &[Region]) -> Vec<Hazard> {
        let mut writers = Writers::default();
        loaded.iter().for_each(|region| writers.set(*region, None));
        let mut hazards = Vec::new();
        for (number, (name, access)) in self.operations.iter().enumerate() {
            let operation = self.label(number);
            for region in access.reads.iter().chain(&access.updates).copied() {
                match writers.of(region) {
                    None => hazards.push(Hazard::ReadBeforeWrite { operation: operation.clone(), region }),
                    Some(found) if found.len() > 1 => hazards.push(Hazard::Overwritten {
                        operation: operation.clone(),
                        region,
                        writers: found.into_iter().flatten().map(|number| self.label(number)).collect(),
                    }),
                    Some(_) => {}
                }
            }
            let aliased = aliased(access).into_iter();
            hazards.extend(aliased.map(|(written, other)| Hazard::Aliased {
                operation: format!("{number} {name}"),
                written,
                other,
            }));
            access.writes.iter().for_each(|region| writers.set(*region, Some(number)));
            // A workspace holds nothing afterwards.
            access.workspaces.iter().for_each(|region| writers.remove(*region));
        }
        hazards
    }

    /// An operation's number and name.
    fn label(&self, number: usize) -> String {
        let name = self.operations.get(number).map_or("", |(name, _)| name);
        format!("{number} {name}")
    }
}

/// Pairs of operands that share elements although one of them is written.
fn aliased(access: &Access) -> Vec<(Region, Region)> {
    let written: Vec<Region> = access.writes.iter().chain(&access.updates).chain(&access.workspaces).copied().collect();
    let all: Vec<Region> = written.iter().chain(&access.reads).copied().collect();
    let pairs = (0..written.len()).flat_map(|first| (first + 1..all.len()).map(move |second| (first, second)));
    pairs.map(|(first, second)| (all[first], all[second])).filter(|(first, second)| first.overlaps(*second)).collect()
}

/// Which operation wrote each element that holds a value, as disjoint ranges by arena; none for what was loaded.
#[derive(Debug, Default)]
struct Writers {
    /// End and writer by start.
    ranges: BTreeMap<Arena, BTreeMap<usize, (usize, Option<usize>)>>,
}

impl Writers {
    fn set(&mut self, region: Region, writer: Option<usize>) {
        self.remove(region);
        if region.len > 0 {
            self.ranges.entry(region.arena).or_default().insert(region.offset, (region.offset + region.len, writer));
        }
    }

    fn remove(&mut self, region: Region) {
        let ranges = self.ranges.entry(region.arena).or_default();
        let (start, end) = (region.offset, region.offset + region.len);
        let touched: Vec<_> = ranges.range(..end).filter(|(_, range)| range.0 > start).map(|(a, b)| (*a, *b)).collect();
        for (range_start, (range_end, writer)) in touched {
            ranges.remove(&range_start);
            if range_start < start {
                ranges.insert(range_start, (start, writer));
            }
            if range_end > end {
                ranges.insert(end, (range_end, writer));
            }
        }
    }

    /// The writers of a region's elements, each once; none where an element holds nothing.
    fn of(&self, region: Region) -> Option<BTreeSet<Option<usize>>> {
        let end = region.offset + region.len;
        let mut position = region.offset;
        let mut writers = BTreeSet::new();
        while position < end {
            let (_, (range_end, writer)) = self.ranges.get(&region.arena)?.range(..=position).next_back()?;
            if *range_end <= position {
                return None;
            }
            writers.insert(*writer);
            position = *range_end;
        }
        Some(writers)
    }
}
