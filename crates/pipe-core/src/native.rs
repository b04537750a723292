//! Where libtorch and ONNX Runtime lie, and which versions they are, without loading them.
//!
//! Looked for in this order: `PIPE_NATIVE`; `lib/` beside the `bin/` of an installed pipe; `.native/` in a folder
//! above the program, which is the checkout it was built in. Each library has a `versions.json` beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::Device;
use crate::error::{Error, Result};
use crate::worker::ResolvedDevice;

/// A folder with `libtorch/` and `onnxruntime/`.
#[derive(Debug, Clone)]
pub struct NativeLibraries {
    dir: PathBuf,
}

impl NativeLibraries {
    pub fn locate() -> Result<NativeLibraries> {
        if let Some(dir) = std::env::var_os("PIPE_NATIVE") {
            return Ok(NativeLibraries { dir: dir.into() });
        }
        let program =
            std::env::current_exe().and_then(|path| path.canonicalize()).map_err(|e| Error::internal(format!("cannot find this program: {e}")))?;
        let installed = program.parent().and_then(Path::parent).map(|prefix| prefix.join("lib"));
        let checkouts = program.ancestors().skip(1).map(|dir| dir.join(".native"));
        let found = installed
            .into_iter()
            .chain(checkouts)
            .find(|dir| dir.join("onnxruntime/versions.json").exists() || dir.join("libtorch/versions.json").exists());
        found.map(|dir| NativeLibraries { dir }).ok_or_else(|| {
            Error::stage("libtorch and ONNX Runtime are not here")
                .hint("in a checkout run `cargo xtask setup`; elsewhere set PIPE_NATIVE to the folder that holds them")
        })
    }

    fn version(&self, library: &str) -> Result<String> {
        let path = self.dir.join(library).join("versions.json");
        let missing = || {
            Error::stage(format!("{library} is not installed ({} is missing)", path.display())).hint(match library {
                "libtorch" => "training needs libtorch: in a checkout run `cargo xtask setup`; an installation made with --no-train has none",
                _ => "in a checkout run `cargo xtask setup`",
            })
        };
        let bytes = std::fs::read(&path).map_err(|_| missing())?;
        let versions: BTreeMap<String, String> = serde_json::from_slice(&bytes).map_err(|_| missing())?;
        versions.get(library).cloned().ok_or_else(missing)
    }

    pub fn libtorch_version(&self) -> Result<String> {
        self.version("libtorch")
    }

    pub fn onnxruntime_version(&self) -> Result<String> {
        self.version("onnxruntime")
    }

    /// The shared library that `ort` loads.
    pub fn onnxruntime_library(&self) -> Result<PathBuf> {
        let version = self.onnxruntime_version()?;
        let path = self.dir.join("onnxruntime/lib").join(format!("libonnxruntime.so.{version}"));
        if path.exists() { Ok(path) } else { Err(Error::stage(format!("{} is missing", path.display())).hint("run `cargo xtask setup`")) }
    }

    /// The folder with `libtorch_cuda.so`: `PIPE_LIBTORCH`, or what `cargo xtask setup --cuda` made.
    pub fn cuda_libraries(&self) -> Option<PathBuf> {
        let named = std::env::var_os("PIPE_LIBTORCH").map(PathBuf::from);
        let candidates = named.iter().flat_map(|dir| [dir.clone(), dir.join("lib")]).chain([self.dir.join("libtorch-cuda/lib")]);
        candidates.into_iter().find(|dir| dir.join("libtorch_cuda.so").exists())
    }

    /// `auto` is CUDA where a device file and the CUDA libraries are present; no library is loaded to find out.
    pub fn resolve_device(&self, device: Device) -> Result<ResolvedDevice> {
        let has_device = Path::new("/dev/nvidiactl").exists() || Path::new("/dev/nvidia0").exists();
        match device {
            Device::Cpu => Ok(ResolvedDevice::Cpu),
            Device::Auto if has_device && self.cuda_libraries().is_some() => Ok(ResolvedDevice::Cuda),
            Device::Auto => Ok(ResolvedDevice::Cpu),
            Device::Cuda if !has_device => {
                Err(Error::stage("`device: cuda` was asked for, but this machine shows no NVIDIA device").hint("use `device: auto` or `device: cpu`"))
            }
            Device::Cuda if self.cuda_libraries().is_none() => Err(Error::stage("`device: cuda` was asked for, but libtorch_cuda.so is not here")
                .hint("run `cargo xtask setup --cuda`, or set PIPE_LIBTORCH to the torch/lib folder of a PyTorch 2.11")),
            Device::Cuda => Ok(ResolvedDevice::Cuda),
        }
    }
}
