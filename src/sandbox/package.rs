//! Which package holds a PostgreSQL server on this host.

use std::fs;

use super::find::Places;

/// What to do where there is no server: a command, by the system's own name in `/etc/os-release`.
pub fn advice(places: &Places, major: Option<u32>) -> String {
    if cfg!(target_os = "macos") {
        return install(&brew(major));
    }
    let read = |path: &str| fs::read_to_string(places.root.join(path)).ok();
    let release = read("etc/os-release").or_else(|| read("usr/lib/os-release")).unwrap_or_default();
    by_release(&release, major)
}

fn by_release(release: &str, major: Option<u32>) -> String {
    let like = values(release, "ID").chain(values(release, "ID_LIKE"));
    for id in like {
        let version = |prefix: &str| major.map_or_else(String::new, |major| format!("{prefix}{major}"));
        let command = match id {
            "debian" | "ubuntu" => format!("apt-get install postgresql{}", version("-")),
            "fedora" | "rhel" | "centos" | "rocky" | "almalinux" | "amzn" => "dnf install postgresql-server".to_owned(),
            "arch" => "pacman -S postgresql".to_owned(),
            "alpine" => format!("apk add postgresql{}", version("")),
            "suse" | "opensuse" | "sles" => format!("zypper install postgresql{}-server", version("")),
            _ => continue,
        };
        return install(&command);
    }
    "install PostgreSQL's server package, or set HOWDAH_PG_BIN to the directory that holds `initdb` and `postgres`"
        .to_owned()
}

fn brew(major: Option<u32>) -> String {
    format!("brew install postgresql@{}", major.unwrap_or(super::fetch::DEFAULT_MAJOR))
}

fn install(command: &str) -> String {
    format!("install one with `{command}`")
}

/// The words of one key of an os-release file.
fn values<'a>(release: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    release
        .lines()
        .filter_map(move |line| line.trim().strip_prefix(key)?.strip_prefix('='))
        .flat_map(|value| value.trim_matches(['"', '\'']).split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_system_is_told_its_own_package() {
        let table = [
            ("ID=debian\nVERSION_ID=\"12\"", None, "apt-get install postgresql`"),
            ("NAME=Ubuntu\nID=ubuntu\nID_LIKE=debian", Some(16), "apt-get install postgresql-16`"),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"", None, "apt-get install postgresql`"),
            ("ID=fedora", Some(16), "dnf install postgresql-server`"),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"", None, "dnf install postgresql-server`"),
            ("ID=ol\nID_LIKE=\"fedora\"", None, "dnf install postgresql-server`"),
            ("ID=manjaro\nID_LIKE=arch", None, "pacman -S postgresql`"),
            ("ID=alpine", Some(17), "apk add postgresql17`"),
            ("ID='opensuse-leap'\nID_LIKE='suse opensuse'", None, "zypper install postgresql-server`"),
        ];
        for (release, major, expected) in table {
            let text = by_release(release, major);
            assert!(text.contains(expected), "{release}: {text}");
        }
        assert!(brew(None).ends_with("postgresql@17"));
    }

    #[test]
    fn an_unknown_system_is_told_what_to_look_for() {
        for release in ["", "ID=plan9", "garbage"] {
            assert!(by_release(release, None).contains("HOWDAH_PG_BIN"), "{release}");
        }
    }
}
