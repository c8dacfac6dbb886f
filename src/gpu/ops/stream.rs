//! Mixes and norms of the stream.

use nanochat_step::{Op, Region};

use super::{GpuOps, ROW_THREADS, sum_blocks};
use crate::{Device, DeviceError, Kernel};

impl<D: Device> GpuOps<D> {
    pub(super) fn stream(&mut self, op: &Op<'_>) -> Result<(), DeviceError> {
        match *op {
            Op::Norm { x, width, normed, inverse } => self.rows(Kernel::Norm, &[x, normed, inverse], width),
            Op::Mix { x, x0, lambdas: [lambda, lambda0], width, mixed, normed, inverse } => {
                self.rows(Kernel::Mix, &[x, x0, lambda, lambda0, mixed, normed, inverse], width)
            }
            Op::Backout { last, middle, lambda, width, normed, inverse } => {
                self.rows(Kernel::Backout, &[last, middle, lambda, normed, inverse], width)
            }
            Op::NormBackward { dnormed, normed, inverse, width, onto } => {
                self.rows(Kernel::NormBackward, &[dnormed, normed, inverse, onto], width)
            }
            Op::MixBackward {
                dnormed,
                normed,
                inverse,
                x,
                x0,
                lambdas: [lambda, lambda0],
                width,
                dstream,
                dx0,
                dlambdas,
            } => {
                let regions = [dnormed, normed, inverse, x, x0, lambda, lambda0, dstream, dx0];
                let blocks = self.sums(Kernel::MixBackward, &regions, width)?;
                self.finish_sums(blocks, [0, 2], dlambdas[0])?;
                self.finish_sums(blocks, [1, 2], dlambdas[1])
            }
            Op::BackoutBackward { dnormed, normed, inverse, middle, lambda, width, dstream, dmiddle, dlambda } => {
                let regions = [dnormed, normed, inverse, middle, lambda, dstream, dmiddle];
                let blocks = self.sums(Kernel::BackoutBackward, &regions, width)?;
                self.finish_sums(blocks, [0, 1], dlambda)
            }
            _ => unreachable!("operations of the stream alone come here"),
        }
    }

    fn rows(&mut self, kernel: Kernel, regions: &[Region], width: usize) -> Result<(), DeviceError> {
        let mut arguments: Vec<u64> = regions.iter().map(|region| self.at(*region)).collect();
        arguments.extend([self.tokens as u64, width as u64]);
        self.launch_rows(kernel, self.tokens, &arguments)
    }

    /// A kernel whose blocks leave partial sums; how many blocks.
    fn sums(&mut self, kernel: Kernel, regions: &[Region], width: usize) -> Result<usize, DeviceError> {
        let blocks = sum_blocks(self.tokens);
        let mut arguments: Vec<u64> = regions.iter().map(|region| self.at(*region)).collect();
        arguments.extend([self.memory.partials.0, self.tokens as u64, width as u64]);
        self.launch(kernel, blocks as u32, ROW_THREADS, &arguments)?;
        Ok(blocks)
    }
}
