//! Picks the device, loading the CUDA libraries only when a GPU is asked for.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pipe_core::worker::ResolvedDevice;
use pipe_core::{Error, Result};
use tch::Device;

/// The device to compute on; an error, never a silent fallback, where it cannot be had.
pub(crate) fn open(device: ResolvedDevice, cuda_libraries: Option<&Path>) -> Result<Device> {
    if device == ResolvedDevice::Cpu {
        return Ok(Device::Cpu);
    }
    let folder =
        cuda_libraries.ok_or_else(|| Error::stage("libtorch_cuda.so is not here").hint("run `cargo xtask setup --cuda`, or set PIPE_LIBTORCH"))?;
    // The binary is linked without CUDA, so that it starts quickly and anywhere. Loading the library registers
    // its kernels, which must happen before the first tensor.
    load_global(&folder.join("libtorch_cuda.so"))?;
    if !tch::Cuda::is_available() {
        return Err(Error::stage("libtorch finds no usable GPU").hint("check the driver with nvidia-smi, or use `device: cpu`"));
    }
    Ok(Device::Cuda(0))
}

fn load_global(path: &Path) -> Result<()> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::usage("a path with a zero byte"))?;
    // SAFETY: the name is a valid C string; the library is never unloaded.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: dlerror gives a valid string after a failed dlopen, which is copied at once.
    let reason = unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into_owned();
    Err(Error::stage(format!("cannot load {}: {reason}", path.display()))
        .hint("is the folder the torch/lib of PyTorch 2.11 with CUDA, and its CUDA libraries beside it?"))
}
