//! Planted faults are found, and sizes are as planned.

use nanochat_gpu::{Device, DeviceError, Dtype, GpuOps};
use nanochat_plan::gpu::GpuSizes;
use nanochat_plan::{ModelShape, Precision};

use super::{MICRO_STEPS, SIZE, networks, shapes};
use crate::Emulator;

fn reason(result: Result<(), DeviceError>) -> String {
    match result {
        Err(DeviceError::Failed { command, reason }) => format!("{command}: {reason}"),
        other => panic!("{other:?}"),
    }
}

/// A kernel whose threads read what others write without a barrier gives other results in another order.
#[test]
fn a_planted_missing_barrier_is_found() {
    let results = [0, 1].map(|order| {
        let mut device = Emulator::with_order(order);
        let out = device.allocate(256).unwrap();
        device.launch_named("planted_race", 1, 64, &[out.0]).unwrap();
        let mut bytes = [0; 256];
        device.download(out, &mut bytes).unwrap();
        bytes
    });
    assert_ne!(results[0], results[1]);
}

#[test]
fn a_planted_barrier_that_some_threads_miss_is_found() {
    let mut device = Emulator::default();
    let out = device.allocate(256).unwrap();
    let told = reason(device.launch_named("planted_split_barrier", 1, 64, &[out.0]));
    assert!(told.contains("not all threads of block 0 reach a barrier"), "{told}");
    // The device goes on.
    device.launch_named("planted_race", 1, 64, &[out.0]).unwrap();
}

#[test]
fn a_planted_write_out_of_bounds_is_found() {
    let mut device = Emulator::default();
    let out = device.allocate(256).unwrap();
    let told = reason(device.launch_named("planted_overrun", 1, 32, &[out.0, 64]));
    assert!(told.contains("outside an allocation of 256 bytes"), "{told}");
}

#[test]
fn wrong_launches_are_refused() {
    let mut device = Emulator::default();
    assert!(reason(device.launch_named("planted_race", 1, 33, &[0])).contains("a block of 33 threads"));
    assert!(reason(device.launch_named("planted_race", 1, 64, &[])).contains("takes 1 arguments, not 0"));
    assert!(reason(device.launch_named("nothing", 1, 64, &[])).contains("no kernel"));
}

#[test]
fn what_is_allocated_is_what_the_plan_says() {
    for shape in shapes() {
        let [_, network] = networks(&shape);
        for (storage, precision) in [(Dtype::F32, Precision::F32), (Dtype::Bf16, Precision::Bf16)] {
            let ops = GpuOps::new(Emulator::default(), &network, MICRO_STEPS, storage).unwrap();
            let planned = GpuSizes::new(&shape, SIZE, MICRO_STEPS, precision).total();
            assert_eq!(ops.device().bytes(), planned);
        }
    }
}

#[test]
fn shapes_that_the_kernels_do_not_take_are_refused() {
    let odd = ModelShape { n_embd: 36, n_head: 3, n_kv_head: 3, ..shapes()[0].clone() };
    let [_, network] = networks(&odd);
    let error = GpuOps::new(Emulator::default(), &network, MICRO_STEPS, Dtype::Bf16).unwrap_err();
    assert_eq!(error, DeviceError::Shape { what: "a width of 36 with 36 channels of keys".into() });
}
