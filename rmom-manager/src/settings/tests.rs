use super::*;

const URL: &str = "[default.databases.rmom_manager]\nurl = \"postgresql://me:hush@db:5/x\"\n";

fn parse(toml: &str, profile: &str) -> Result<Settings, String> {
    let sources = Figment::from(Toml::string(toml).nested());
    Settings::read(sources, Profile::new(profile)).map_err(|error| error.to_string())
}

fn addresses(settings: &Settings) -> Vec<String> {
    settings.moms.iter().map(ToString::to_string).collect()
}

#[test]
fn the_development_file_is_legal_in_both_profiles() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Rocket.toml");
    for (profile, port, workers) in [("default", 8082, 5), ("release", 8080, 20)] {
        let sources = Figment::from(Toml::file(file).nested());
        let settings = Settings::read(sources, Profile::new(profile)).unwrap();
        assert_eq!((settings.port, settings.workers), (port, workers));
        assert_eq!(settings.address.to_string(), "127.0.0.1");
        assert_eq!(
            addresses(&settings),
            [
                "127.0.0.1:50051",
                "127.0.0.2:50051",
                "127.0.0.3:50051",
                "127.0.0.4:50051"
            ]
        );
        assert_eq!(
            settings.database.target(),
            "postgres@127.0.0.1:5432/rmom_manager"
        );
        assert_eq!(settings.database.max_connections, 5);
        assert_eq!(settings.database.acquire_timeout, Duration::from_secs(7));
        assert_eq!(settings.warnings, Vec::<String>::new());
    }
}

#[test]
fn the_url_alone_is_enough() {
    for (profile, port) in [("default", 8082), ("debug", 8082), ("release", 8080)] {
        let settings = parse(URL, profile).unwrap();
        assert_eq!(settings.port, port);
        assert_eq!(settings.address.to_string(), "127.0.0.1");
        assert_eq!(settings.manager_cycle, Duration::from_secs(1));
        assert_eq!(settings.lease, Duration::from_secs(3));
        assert_eq!(settings.message_sweep, Duration::from_secs(1));
        let probe = Probe {
            deadline: Duration::from_secs(1),
            max_retries: 3,
            retry_delay: Duration::from_millis(33),
        };
        assert_eq!(settings.probe, probe);
        assert_eq!(settings.moms, []);
        assert!(settings.warnings[0].contains("`moms` is not set"));
    }
}

#[test]
fn the_port_of_the_profile_default_counts_in_every_profile() {
    let toml = format!("[default]\nport = 9000\n{URL}");
    assert_eq!(parse(&toml, "release").unwrap().port, 9000);
}

#[test]
fn a_missing_url_is_told_with_where_it_belongs() {
    let error = parse("[default]\nport = 8082", "default").unwrap_err();
    for part in [
        "`databases.rmom_manager.url` is missing",
        "[default.databases.rmom_manager]",
        "postgresql://user:password@",
        "ROCKET_DATABASES",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn each_wrong_value_is_told_with_its_key_and_what_is_legal() {
    for (line, parts) in [
        (
            "manager_cycle_secs = 0",
            &["`manager_cycle_secs`", "is 0", "1 to 3600"][..],
        ),
        (
            "manager_cycle_secs = \"often\"",
            &["manager_cycle_secs", "\"often\"", "whole number"],
        ),
        (
            "life_probe_max_retries = -1",
            &["life_probe_max_retries", "is -1", "0 to 1000"],
        ),
        (
            "life_probe_retry_delay_millis = 1.5",
            &["life_probe_retry_delay_millis", "is 1.5"],
        ),
        (
            "life_probe_deadline_millis = 1",
            &["life_probe_deadline_millis", "is 1", "10 to"],
        ),
        ("lease_secs = 0", &["lease_secs", "is 0", "1 to 60"]),
        ("message_sweep_secs = true", &["message_sweep_secs", "bool"]),
        ("workers = 0", &["workers", "is 0"]),
        ("max_blocking = 0", &["max_blocking", "is 0"]),
        ("port = 70000", &["port", "70000", "u16"]),
        ("address = \"nowhere\"", &["address", "nowhere", "IP"]),
        ("moms = 7", &["`moms`", "is 7", "a list like"]),
        ("moms = [7]", &["moms[0]", "is 7", "an entry like"]),
        (
            "moms = [{ port = 1 }]",
            &["moms[0].host", "missing", "external_host"],
        ),
        (
            "moms = [{ host = \"a b\", port = 1 }]",
            &["moms[0].host", "\"a b\""],
        ),
        (
            "moms = [{ host = \"a/b\", port = 1 }]",
            &["moms[0].host", "\"a/b\""],
        ),
        ("moms = [{ host = \"\", port = 1 }]", &["moms[0].host"]),
        (
            "moms = [{ host = \"a\" }]",
            &["moms[0].port", "missing", "external_port"],
        ),
        (
            "moms = [{ host = \"a\", port = 0 }]",
            &["moms[0].port", "is 0", "1 to 65535"],
        ),
    ] {
        let error = parse(&format!("[default]\n{line}\n{URL}"), "default").unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{line}: {part}: {error}");
        }
    }
}

#[test]
fn wrong_values_of_the_database_are_told_without_the_password() {
    for (line, parts) in [
        ("max_connections = 0", &["max_connections", "is 0"][..]),
        (
            "min_connections = 11",
            &["min_connections", "11", "max_connections", "10"],
        ),
        ("connect_timeout = 0", &["connect_timeout", "is 0"]),
        ("idle_timeout = 0", &["idle_timeout", "is 0"]),
    ] {
        let error = parse(&format!("{URL}{line}"), "default").unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{line}: {part}: {error}");
        }
    }
    for url in [
        "\"mysql://me:hush@db/x\"",
        "\"postgresql://me:hush@db:port/x\"",
        "[\"hush\"]",
    ] {
        let toml = format!("[default.databases.rmom_manager]\nurl = {url}");
        let error = parse(&toml, "default").unwrap_err();
        assert!(
            error.contains("databases.rmom_manager.url") && error.contains("legal is a URL like"),
            "{error}"
        );
        assert!(!error.contains("hush"), "{error}");
    }
}

#[test]
fn the_password_is_not_shown() {
    let shown = format!("{:?}", parse(URL, "default").unwrap());
    assert!(
        shown.contains("me@db:5/x") && !shown.contains("hush"),
        "{shown}"
    );
}

#[test]
fn all_faults_are_told_at_once() {
    let error = parse("[default]\nmanager_cycle_secs = 0\nworkers = 0", "default").unwrap_err();
    for key in [
        "manager_cycle_secs",
        "workers",
        "databases.rmom_manager.url",
    ] {
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let error = parse("[default]\nport = \n", "default").unwrap_err();
    assert!(error.contains("line 2"), "{error}");
}

#[test]
fn keys_that_mean_nothing_are_named_in_one_warning() {
    let toml = "[default]\ncolour = 1\nmoms = [{ host = \"a\", port = 1, weight = 2 }]\n\
        [default.databases.rmom_manager]\nurl = \"postgresql://me@db/x\"\npasword = 3\n\
        [default.databases.other]\nurl = \"x\"\n";
    let settings = parse(toml, "default").unwrap();
    assert_eq!(settings.warnings.len(), 1, "{:?}", settings.warnings);
    for key in [
        "`colour`",
        "`moms[0].weight`",
        "`databases.rmom_manager.pasword`",
        "`databases.other`",
    ] {
        assert!(
            settings.warnings[0].contains(key),
            "{key}: {:?}",
            settings.warnings
        );
    }
}

#[test]
fn a_mom_that_is_listed_twice_counts_once() {
    let toml = format!(
        "[default]\nmoms = [{{ host = \"::1\", port = 1 }}, {{ host = \"a\", port = 2 }}, {{ host = \"::1\", port = 1 }}]\n{URL}"
    );
    let settings = parse(&toml, "default").unwrap();
    assert_eq!(addresses(&settings), ["[::1]:1", "a:2"]);
    assert!(settings.warnings[0].contains("[::1]:1 more than once"));
}

#[test]
#[expect(clippy::result_large_err, reason = "figment's own signature")]
fn variables_win_and_are_named_in_faults() {
    figment::Jail::expect_with(|jail| {
        jail.clear_env();
        jail.create_file("Rocket.toml", &format!("[default]\nport = 1\n{URL}"))?;
        jail.set_env("ROCKET_PORT", "2");
        jail.set_env("ROCKET_MANAGER_CYCLE_SECS", "7");
        jail.set_env("ROCKET_MOMS", "[{host=\"a\",port=1}]");
        let settings = Settings::load().unwrap();
        assert_eq!(settings.port, 2);
        assert_eq!(settings.manager_cycle, Duration::from_secs(7));
        assert_eq!(addresses(&settings), ["a:1"]);
        assert_eq!(settings.warnings, Vec::<String>::new());

        jail.set_env("ROCKET_MANAGER_CYCLE_SECS", "0");
        let error = Settings::load().unwrap_err().to_string();
        assert!(
            error.contains("variable ROCKET_MANAGER_CYCLE_SECS"),
            "{error}"
        );

        jail.set_env("ROCKET_MANAGER_CYCLE_SECS", "7");
        jail.set_env(
            "ROCKET_DATABASES",
            "{rmom_manager={url=\"postgresql://you@else:6/y\"}}",
        );
        let settings = Settings::load().unwrap();
        assert_eq!(settings.database.target(), "you@else:6/y");
        Ok(())
    });
}

#[test]
#[expect(clippy::result_large_err, reason = "figment's own signature")]
fn the_profile_of_a_debug_build_is_default_unless_the_file_or_a_variable_says_otherwise() {
    figment::Jail::expect_with(|jail| {
        jail.clear_env();
        jail.create_file("Rocket.toml", URL)?;
        assert_eq!(Settings::load().unwrap().profile, "default");
        jail.create_file("Rocket.toml", &format!("[debug]\nport = 3\n{URL}"))?;
        let settings = Settings::load().unwrap();
        assert_eq!((settings.profile.as_str(), settings.port), ("debug", 3));
        jail.set_env("ROCKET_PROFILE", "release");
        let settings = Settings::load().unwrap();
        assert_eq!(
            (settings.profile.as_str(), settings.port),
            ("release", 8080)
        );
        Ok(())
    });
}
