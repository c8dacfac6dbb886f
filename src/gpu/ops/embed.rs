//! Embedding and smear.

use nanochat_plan::gpu::GATE_BLOCKS;
use nanochat_plan::shape::SMEAR_CHANNELS;
use nanochat_step::{Op, Region};

use super::{GpuOps, ROW_THREADS, VECTOR, sum_blocks};
use crate::{Device, DeviceError, Kernel};

/// Rows whose sum goes to a table: where they begin, how far it is from one to the next, and the value gates that weight them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) at: u64,
    pub(super) stride: usize,
    pub(super) width: usize,
    /// Sigmoids of the gates, and channels of a head.
    pub(super) gates: Option<(Region, usize)>,
}

impl<D: Device> GpuOps<D> {
    pub(super) fn embedding(&mut self, op: &Op<'_>) -> Result<(), DeviceError> {
        let (tokens, places) = (self.tokens as u64, self.batch.places());
        match *op {
            Op::Embed { table, smear, embedded, inverse, out, sigma } => {
                let arguments = [
                    self.memory.operand(table).0,
                    self.batch_at(places.ids),
                    self.at(smear.gate),
                    self.at(smear.lambda),
                    self.at(embedded),
                    self.at(inverse),
                    self.at(out),
                    self.at(sigma),
                    tokens,
                    smear.length as u64,
                    smear.width as u64,
                    SMEAR_CHANNELS as u64,
                ];
                self.launch_rows(Kernel::Embed, self.tokens, &arguments)
            }
            Op::EmbedBackward { dx, embedded, inverse, sigma, smear, dtable, dgate, dlambda, slopes, workspaces } => {
                let (length, width) = (smear.length as u64, smear.width as u64);
                let blocks = sum_blocks(self.tokens);
                let [dx, embedded_at, sigma, lambda, slopes_at] =
                    [dx, embedded, sigma, smear.lambda, slopes].map(|region| self.at(region));
                let partials = self.memory.partials.0;
                let arguments = [dx, embedded_at, sigma, lambda, slopes_at, partials, tokens, length, width];
                self.launch(Kernel::SmearSlopes, blocks as u32, ROW_THREADS, &arguments)?;
                self.finish_sums(blocks, [0, 1], dlambda)?;
                self.gate_gradient(slopes, embedded, smear.width, 1, dgate)?;
                let drows = self.at(workspaces[1]);
                let (inverse, gate, channels) = (self.at(inverse), self.at(smear.gate), SMEAR_CHANNELS as u64);
                let arguments =
                    [dx, embedded_at, inverse, sigma, slopes_at, gate, lambda, drows, tokens, length, width, channels];
                self.launch_rows(Kernel::EmbedBackward, self.tokens, &arguments)?;
                self.sum_rows(Rows { at: drows, stride: smear.width, width: smear.width, gates: None }, dtable)
            }
            _ => unreachable!("operations of the embedding alone come here"),
        }
    }

    /// Adds to a gate's gradient: slopes of so many gates a token times the first channels of `x`.
    pub(super) fn gate_gradient(
        &mut self,
        slopes: Region,
        x: Region,
        width: usize,
        gates: usize,
        onto: Region,
    ) -> Result<(), DeviceError> {
        let (blocks, channels) = (GATE_BLOCKS.min(self.tokens), onto.len / gates);
        let [slopes, x] = [slopes, x].map(|region| self.at(region));
        let sizes = [self.tokens, width, gates, channels].map(|size| size as u64);
        let arguments = [&[slopes, x, self.memory.partials.0][..], &sizes].concat();
        let threads = onto.len.next_multiple_of(32).min(ROW_THREADS as usize);
        self.launch(Kernel::GateSums, blocks as u32, threads as u32, &arguments)?;
        self.finish_sums(blocks, [0, onto.len], onto)
    }

    /// Adds rows to those of a table that the batch's ids name.
    pub(super) fn sum_rows(&mut self, rows: Rows, table: Region) -> Result<(), DeviceError> {
        let (places, width) = (self.batch.places(), rows.width as u64);
        let (sigma, size) = rows.gates.map_or((0, rows.width), |(sigma, size)| (self.at(sigma), size));
        let [order, pieces, joins, header] =
            [places.order, places.pieces, places.joins, 0].map(|place| self.batch_at(place));
        let (partials, table) = (self.memory.row_partials.0, self.at(table));
        let (stride, size) = (rows.stride as u64, size as u64);
        let arguments = [rows.at, sigma, order, pieces, header, partials, table, width, stride, size];
        let threads = (rows.width / VECTOR).next_multiple_of(32).min(1024) as u32;
        self.launch(Kernel::SumRows, places.most_pieces as u32, threads, &arguments)?;
        if places.most_joins == 0 {
            return Ok(());
        }
        let arguments = [partials, joins, header, table, width];
        self.launch(Kernel::JoinRows, places.most_joins as u32, ROW_THREADS, &arguments)
    }
}
