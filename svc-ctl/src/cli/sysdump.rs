//! `svc-ctl sysdump`: all that a maintainer asks for, in one archive.
//!
//! Each part is the output of a command, a file or a page of the daemon. A part that fails is named in the archive's index with its
//! reason, and the others go on.

mod parts;

use std::fs::File;
use std::io::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

use self::parts::{Part, parts};
use super::args::SysdumpArgs;

/// Folder of all files in the archive.
const FOLDER: &str = "svc-sysdump";

pub fn main(args: &SysdumpArgs) -> anyhow::Result<()> {
    let context = || format!("writing {}", args.file.display());
    // A part may take long, so a bad path fails first.
    let file = File::create(&args.file).with_context(context)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut index = format!("svc-ctl {}\nseconds since 1970: {now}\n\n", env!("CARGO_PKG_VERSION"));
    let mut archive = Builder::new(GzEncoder::new(file, Compression::default()));
    let mut failed = 0;
    for Part { name, source } in parts(args) {
        match source.read() {
            Ok(octets) => {
                index.push_str(&format!("{name}: {} octets\n", octets.len()));
                add(&mut archive, &name, &octets, now).with_context(context)?;
            }
            Err(error) => {
                failed += 1;
                index.push_str(&format!("{name}: failed: {error:#}\n"));
            }
        }
    }
    add(&mut archive, "index.txt", index.as_bytes(), now).with_context(context)?;
    archive
        .into_inner()
        .and_then(GzEncoder::finish)
        .and_then(|mut file| file.flush())
        .with_context(context)?;
    eprintln!("svc-ctl: {} written; {failed} parts failed, as its index.txt says", args.file.display());
    Ok(())
}

fn add(archive: &mut Builder<impl io::Write>, name: &str, octets: &[u8], now: u64) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(octets.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(now);
    archive.append_data(&mut header, format!("{FOLDER}/{name}"), octets)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;
    use std::path::PathBuf;

    use flate2::read::GzDecoder;
    use tar::Archive;

    use super::*;
    use crate::cli::args::{PinDir, RunDir};

    #[test]
    fn a_node_without_svc_gives_an_archive_whose_index_names_what_failed() {
        let folder = std::env::temp_dir().join(format!("svc-sysdump-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let log = folder.join("log");
        std::fs::write(&log, "a line\nbgp password=abc\n").unwrap();
        let none = PathBuf::from("/nonexistent");
        let args = SysdumpArgs {
            file: folder.join("dump.tar.gz"),
            log: Some(log),
            metrics_address: "127.0.0.1:1".parse().unwrap(),
            pins: PinDir { pin_dir: none.clone() },
            run_dir: RunDir { run_dir: none },
        };
        main(&args).unwrap();
        let mut archive = Archive::new(GzDecoder::new(File::open(&args.file).unwrap()));
        let files: BTreeMap<String, String> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                (entry.path().unwrap().display().to_string(), text)
            })
            .collect();
        let index = &files["svc-sysdump/index.txt"];
        assert!(index.contains("status.json: failed") && index.contains("kernel.txt: "), "{index}");
        assert_eq!(files["svc-sysdump/log.txt"], "a line\nbgp password [removed]\n");
        assert!(files["svc-sysdump/kernel.txt"].contains("Linux"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
