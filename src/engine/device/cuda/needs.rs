//! The driver and GPU that the kernels need, and the meaning of CUDA's errors.

use super::super::{Capability, DeviceError};
use super::Built;

/// Releases of CUDA, and the oldest driver on Linux that runs what they compiled (the toolkit's release notes, table
/// "CUDA Toolkit and Corresponding Driver Versions"). Other releases are found out by trying.
const DRIVERS: [((u32, u32), u32); 12] = [
    ((11, 8), 520),
    ((12, 0), 525),
    ((12, 1), 530),
    ((12, 2), 535),
    ((12, 3), 545),
    ((12, 4), 550),
    ((12, 5), 555),
    ((12, 6), 560),
    ((12, 8), 570),
    ((12, 9), 575),
    ((13, 0), 580),
    ((13, 1), 590),
];

/// Release and compute capability from the header of a kernel; none if they are missing.
pub(super) fn read(ptx: &str) -> Option<Built> {
    let mut lines = ptx.lines().take(40);
    let release = lines.find_map(|line| line.split_once("release ")?.1.split(',').next())?;
    let target = lines.find_map(|line| line.strip_prefix(".target sm_"))?;
    let digits: String = target.chars().take_while(char::is_ascii_digit).collect();
    let (major, minor) = digits.split_at_checked(digits.len().checked_sub(1)?)?;
    Some(Built {
        cuda: pair(release)?,
        capability: Capability { major: major.parse().ok()?, minor: minor.parse().ok()? },
    })
}

/// Two numbers with a point between them.
fn pair(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The oldest driver that runs the kernels; none for a release that the table doesn't have.
fn least_driver(built: &Built) -> Option<u32> {
    DRIVERS.iter().find(|(release, _)| *release == built.cuda).map(|(_, driver)| *driver)
}

/// Refuses a driver that can't run the kernels. Unknown versions pass: opening the GPU will fail.
pub(super) fn check_driver(built: &Built, driver: &str) -> Result<(), DeviceError> {
    let found: Option<u32> = driver.split('.').next().and_then(|branch| branch.parse().ok());
    match (found, least_driver(built)) {
        (Some(found), Some(least)) if found < least => {
            Err(DeviceError::OldDriver { driver: driver.to_string(), cuda: built.release(), least: least.to_string() })
        }
        _ => Ok(()),
    }
}

/// Refuses a GPU of an older generation than the kernels were compiled for.
pub(super) fn check_capability(built: &Built, gpu: &str, found: Capability) -> Result<(), DeviceError> {
    if found < built.capability {
        return Err(DeviceError::OldGpu { gpu: gpu.to_string(), found, needed: built.capability });
    }
    Ok(())
}

/// The meaning of a message of CUDA or its wrapper.
pub(super) fn explain(reason: &str, built: &Built) -> DeviceError {
    let old = || DeviceError::OldDriver {
        driver: "on this machine".into(),
        cuda: built.release(),
        least: least_driver(built).map_or_else(|| "of that release's notes".into(), |least| least.to_string()),
    };
    let says = |names: &[&str]| names.iter().any(|name| reason.contains(name));
    if says(&["UNSUPPORTED_PTX_VERSION", "SYSTEM_DRIVER_MISMATCH", "COMPAT_NOT_SUPPORTED"]) {
        old()
    } else if says(&["CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_INVALID_DEVICE"]) {
        DeviceError::NoGpu
    } else if says(&["dynamically load the \"cuda\"", "CUDA_ERROR_STUB_LIBRARY"]) {
        DeviceError::NoDriver
    } else if says(&["dynamically load"]) {
        let library = reason.split('"').nth(1).unwrap_or("cublas").to_string();
        DeviceError::NoLibrary { library, cuda: built.release() }
    } else {
        DeviceError::Failed { what: "CUDA", reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOPPER: Built = Built { cuda: (13, 0), capability: Capability { major: 9, minor: 0 } };

    fn text(error: DeviceError) -> String {
        format!("{error}; {}", miette::Diagnostic::help(&error).unwrap())
    }

    #[test]
    fn kernels_say_what_they_were_compiled_by_and_for() {
        let head =
            "//\n// Compiler Build ID: CL-1\n// Cuda compilation tools, release 13.0, V13.0.88\n//\n\n.version 9.0\n";
        let told = |target: &str| read(&format!("{head}.target {target}\n.address_size 64\n"));
        assert_eq!(told("sm_90"), Some(HOPPER));
        assert_eq!(told("sm_90a"), Some(HOPPER));
        assert_eq!(told("sm_120").unwrap().capability, Capability { major: 12, minor: 0 });
        assert_eq!(told("sm_"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn a_driver_older_than_the_compiler_is_refused_by_number() {
        assert_eq!(check_driver(&HOPPER, "580.65.06"), Ok(()));
        assert_eq!(check_driver(&HOPPER, "unknown"), Ok(()));
        let refused = text(check_driver(&HOPPER, "575.57.08").unwrap_err());
        assert!(
            refused.contains("driver 575.57.08 is too old") && refused.contains("driver 580 or newer"),
            "{refused}"
        );
        let newer = Built { cuda: (14, 2), ..HOPPER };
        assert_eq!(check_driver(&newer, "1.0"), Ok(()));
    }

    #[test]
    fn a_gpu_of_an_older_generation_is_refused_by_name() {
        let capability = |major, minor| Capability { major, minor };
        for fits in [capability(9, 0), capability(10, 0), capability(12, 1)] {
            assert_eq!(check_capability(&HOPPER, "NVIDIA X", fits), Ok(()));
        }
        let refused = text(check_capability(&HOPPER, "NVIDIA A100-SXM4-80GB", capability(8, 0)).unwrap_err());
        assert!(
            refused.contains("A100") && refused.contains("8.0") && refused.contains("CUDA_COMPUTE_CAP=80"),
            "{refused}"
        );
    }

    #[test]
    fn errors_of_cuda_are_told_apart() {
        let explained = |reason: &str| explain(reason, &HOPPER);
        let driver = r#"DriverError(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "the provided PTX was compiled with an unsupported toolchain.")"#;
        assert!(matches!(explained(driver), DeviceError::OldDriver { least, .. } if least == "580"));
        assert_eq!(
            explained("DriverError(CUDA_ERROR_NO_DEVICE, \"no CUDA-capable device is detected\")"),
            DeviceError::NoGpu
        );
        let missing =
            |library: &str| format!("Unable to dynamically load the \"{library}\" shared library - searched for …");
        assert_eq!(explained(&missing("cuda")), DeviceError::NoDriver);
        let refused = text(explained(&missing("cublas")));
        assert!(refused.contains("libcublas can't be loaded") && refused.contains("LD_LIBRARY_PATH"), "{refused}");
        assert!(explained("something new").to_string().contains("something new"));
    }
}
