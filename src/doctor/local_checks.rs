//! Settings, the server, the stores and the places on the disk.

use serde_json::Value;

use super::finding::{Finding, Severity};
use super::fix::Fix;
use super::folder::{Disk, Place};
use super::gather::Facts;
use crate::error::Code;

/// Kinds of file systems over a network, as `statfs` numbers them.
const NETWORK: [(u64, &str); 9] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x00c3_6400, "Ceph"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x6573_5546, "FUSE"),
];
/// Kinds in memory.
const IN_MEMORY: [(u64, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];
const OVERLAY: u64 = 0x794c_7630;
/// Less room than this is too little, bytes and files.
const NO_ROOM: (u64, u64) = (16 << 20, 16);
/// Less room than this is little.
const LITTLE_ROOM: (u64, u64) = (256 << 20, 1000);

pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    let mut findings = settings(facts);
    if facts.config.is_err() {
        return findings;
    }
    findings.push(server(facts));
    findings.extend(facts.folder.as_ref().map(|folder| data_dir(folder, facts.user)).unwrap_or_default());
    findings.extend(facts.folder.as_ref().and_then(|folder| folder.disk.as_ref()).map(disk).unwrap_or_default());
    findings.extend(stores(facts));
    findings.extend(audit(facts));
    findings.extend(warnings(facts));
    findings
}

fn settings(facts: &Facts) -> Vec<Finding> {
    let name = "settings";
    let config = match &facts.config {
        Ok(config) => config,
        Err(e) => {
            return vec![Finding::error(
                name,
                e.message(),
                "Correct the settings; `atlock config check` tells whether they are right. No other check was made",
            )];
        }
    };
    let warnings: Vec<Finding> = config
        .warnings()
        .into_iter()
        .map(|text| Finding::warning(name, text, "Correct the settings: `atlock config show` prints where each comes from"))
        .collect();
    if warnings.is_empty() { vec![Finding::ok(name, format!("no mistakes; mode {}", config.mode()))] } else { warnings }
}

fn server(facts: &Facts) -> Finding {
    let (name, ours) = ("server", env!("CARGO_PKG_VERSION"));
    let is_stocks = facts.config.as_ref().is_ok_and(|config| config.is_on_stocks_store());
    if let Some(e) = &facts.refusal {
        return Finding::error(name, e.message(), "Ask as the text says; a linked server answers at GET /api/locks/health, too");
    }
    match (&facts.server, &facts.silence) {
        (Some(version), _) if version != ours => Finding::warning(
            name,
            format!("the server is atlock {version}, this command is atlock {ours}"),
            "Use the command that was installed with the server; after an upgrade, restart the server",
        ),
        (Some(version), _) => Finding::ok(name, format!("it answers by its socket; atlock {version}")),
        (None, Some(e)) if e.code() == Code::StoreBusy => Finding::warning(
            name,
            e.message(),
            "The server has no socket by which this command could ask: its status says why, or locking.socket is off",
        ),
        (None, _) if is_stocks => Finding::info(
            name,
            "strict mode on Atlantis's own store has no socket by which this command could ask",
            "Ask the linked server: GET /api/locks/health",
        ),
        (None, _) => Finding::info(
            name,
            facts.source.clone().unwrap_or_else(|| "no server listens in locking.data_dir".to_owned()),
            "If a server is to run here, start it: its log says why it ended",
        ),
    }
}

fn data_dir(folder: &Place, user: Option<u32>) -> Vec<Finding> {
    let name = "data_dir";
    let path = folder.path.display();
    if let Some(e) = &folder.error {
        return vec![Finding::error(name, format!("{path} cannot be looked at: {e}"), "Run this command as the server's user")];
    }
    if folder.is_missing {
        let text = format!("{path} does not exist");
        let advice = "If a server ran here, the volume is not mounted or the folder was removed: do not start the server before that \
                      is clear. A first start creates the folder";
        return vec![Finding::warning(name, text, advice)];
    }
    if !folder.is_folder {
        return vec![Finding::error(name, format!("{path} is no folder"), "Set locking.data_dir to a folder of its own")];
    }
    let mut findings = Vec::new();
    if folder.mode & 0o022 != 0 {
        let text = format!("{path} has the rights {:o}: others may write there", folder.mode);
        let finding = Finding::warning(name, text, format!("chmod go-w {path}"));
        // Only its owner may.
        findings.push(match user {
            Some(user) if user == folder.owner => finding.fixed_by(Fix::Rights(folder.path.clone(), folder.mode)),
            _ => finding,
        });
    }
    if !folder.of_others.is_empty() {
        let files: Vec<String> = folder.of_others.iter().map(|(file, user)| format!("{file} belongs to user {user}")).collect();
        let text = format!("{path} belongs to user {}, but {}", folder.owner, files.join(", "));
        let advice = format!("Give the files back to the folder's owner: chown -R {} {path}", folder.owner);
        findings.push(Finding::error(name, text, advice));
    }
    match user {
        Some(user) if user == folder.owner && !folder.is_writable => {
            let text = format!("{path} belongs to this user, who may not write there");
            findings.push(Finding::error(name, text, format!("chmod u+rwx {path}, unless the file system is mounted read-only")));
        }
        Some(user) if user != folder.owner && user != 0 => {
            let text = format!("{path} belongs to user {}; this command runs as user {user}", folder.owner);
            findings.push(Finding::info(name, text, "Run this command as the server's user, to see what that user sees"));
        }
        _ => {}
    }
    if findings.is_empty() {
        findings.push(Finding::ok(name, format!("{path}: user {}, rights {:o}", folder.owner, folder.mode)));
    }
    findings
}

fn disk(disk: &Disk) -> Vec<Finding> {
    let kind = |kinds: &[(u64, &'static str)]| kinds.iter().find(|(number, _)| *number == disk.kind).map(|(_, name)| *name);
    let mut findings = Vec::new();
    let network = kind(&NETWORK).map(|kind| {
        Finding::warning(
            "file system",
            format!("locking.data_dir is on {kind}, which is, or may be, over a network"),
            "Use a local disk: locks of files and fsync may not hold what they promise there",
        )
    });
    let memory = kind(&IN_MEMORY).map(|kind| {
        Finding::warning(
            "file system",
            format!("locking.data_dir is on {kind}, in memory"),
            "Use a disk: locks are lost when the machine restarts",
        )
    });
    let overlay = (disk.kind == OVERLAY).then(|| {
        Finding::info(
            "file system",
            "locking.data_dir is on a container's own layer",
            "Mount a volume there: what is in the layer is lost with the container",
        )
    });
    let read_only = disk.is_read_only.then(|| {
        Finding::error("file system", "it is mounted read-only", "Look at the kernel's log: a faulty disk is often mounted so")
    });
    findings.extend(network.into_iter().chain(memory).chain(overlay).chain(read_only));
    if findings.is_empty() {
        findings.push(Finding::ok("file system", format!("local, and can be written (kind {:#x})", disk.kind)));
    }
    let files = disk.free_files.unwrap_or(u64::MAX);
    let room = match disk.free_files {
        Some(files) => format!("{} MiB and {files} files are free", disk.free >> 20),
        None => format!("{} MiB are free", disk.free >> 20),
    };
    let advice = "Make room on the file system of locking.data_dir: a store that cannot write refuses all changes";
    findings.push(match () {
        () if disk.free < NO_ROOM.0 || files < NO_ROOM.1 => Finding::error("space", room, advice),
        () if disk.free < LITTLE_ROOM.0 || files < LITTLE_ROOM.1 => Finding::warning("space", room, advice),
        () => Finding::ok("space", room),
    });
    findings
}

/// Whether the stores answer.
fn stores(facts: &Facts) -> Vec<Finding> {
    let name = "stores";
    match &facts.silence {
        // The check of the server tells.
        None if facts.refusal.is_some() => return Vec::new(),
        Some(e) if e.code() == Code::StoreBusy => return Vec::new(),
        Some(e) if facts.config.as_ref().is_ok_and(|config| config.is_on_stocks_store()) => {
            return vec![Finding::info(name, e.message(), "Ask the linked server: GET /api/locks/health")];
        }
        Some(e) => {
            let advice = format!("docs/05-troubleshooting.md, \"Every error\", has the row {}", e.code().name());
            return vec![Finding::error(name, e.message(), advice)];
        }
        None => {}
    }
    let mut findings = Vec::new();
    for (which, store) in [("Redis", &facts.health["enhanced"]), ("the local store", &facts.health["legacy"])] {
        if let Some(error) = store["error"].as_str() {
            let advice = "docs/05-troubleshooting.md, \"Redis is away\" and \"The local disk\"";
            findings.push(Finding::error(name, format!("{which} does not work: {error}"), advice));
        } else if let Some(took) = store["response_time_ms"].as_f64() {
            findings.push(Finding::ok(name, format!("{which} answered in {took:.2} ms")));
        }
    }
    if facts.server.is_some() && facts.health["overall"] == false {
        let headline = facts.health["headline"].as_str().unwrap_or("locks cannot be granted");
        findings.push(Finding::error(name, headline, "docs/05-troubleshooting.md, \"No lock is granted\""));
    }
    findings
}

/// Whether the audit trail's file can be written by this user.
fn audit(facts: &Facts) -> Option<Finding> {
    let (file, folder) = (facts.audit.as_ref()?, facts.audit_folder.as_ref()?);
    let (name, path) = ("audit", file.path.display());
    let has_room = file.disk.as_ref().is_none_or(|disk| disk.free >= NO_ROOM.0 && !disk.is_read_only);
    let advice =
        "Give the server's user a writable folder in locking.audit.file, with room: events that cannot be written are lost";
    if let Some(e) = file.error.as_ref().or(folder.error.as_ref()) {
        return Some(Finding::warning(name, format!("{path} cannot be looked at: {e}"), advice));
    }
    if file.is_folder || folder.is_missing || !has_room {
        let why = match () {
            () if file.is_folder => "is a folder",
            () if folder.is_missing => "is in a folder that does not exist",
            () => "is on a file system without room",
        };
        return Some(Finding::error(name, format!("{path} {why}"), advice));
    }
    if !file.is_writable || !folder.is_writable {
        // The server may be another user's.
        let is_ours = facts.user == Some(folder.owner) || facts.server.is_none();
        let text = format!("{path} cannot be written by this user");
        let severity = if is_ours { Severity::Error } else { Severity::Info };
        return Some(Finding { severity, ..Finding::error(name, text, advice) });
    }
    Some(Finding::ok(name, format!("{path} can be written")))
}

/// What the status warns of, where no other check tells the same.
fn warnings(facts: &Facts) -> Vec<Finding> {
    let of_settings = facts.config.as_ref().map(|config| config.warnings()).unwrap_or_default();
    let of_redis = match &facts.redis {
        Some(Ok(redis)) => redis.warnings.as_slice(),
        _ => &[],
    };
    let is_told = |text: &str| of_settings.iter().chain(of_redis).any(|told| told == text);
    let texts = facts.status["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let advice = "docs/05-troubleshooting.md has what to do about each warning of the status";
    texts.filter(|text| !is_told(text)).map(|text| Finding::warning("warnings", text, advice)).collect()
}
