//! The command line, as it is typed: what it means, and every mistake of it at once.

use canary_mcp::{
    api::dry_run::DryRun,
    cli::Cli,
    cluster::{
        Overrides,
        sources::{ArgoCd, given::Rule},
    },
    config::{Alone, Auth, Config, Driving, Fleet, Serve, Sources},
};
use clap::Parser as _;

fn parse(line: &str) -> Result<Config, String> {
    parse_in(line, &[])
}

fn parse_in(line: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let cli = Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
    Config::parse(cli, |name| {
        env.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    })
    .map_err(|mistakes| mistakes.to_string())
}

fn no_sources() -> Sources {
    Sources {
        kubeconfig: Vec::new(),
        context: Vec::new(),
        in_cluster: None,
        argocd: None,
        lead: Vec::new(),
        cluster_labels: Vec::new(),
        clusters_file: None,
    }
}

fn defaults() -> Driving {
    Driving {
        mesh_provider: "istio".to_owned(),
        metrics_server: "http://prometheus.istio-system:9090".to_owned(),
        event_webhook: None,
        selector_labels: ["app", "name", "app.kubernetes.io/name"]
            .map(str::to_owned)
            .to_vec(),
        include_label_prefix: Vec::new(),
        namespaces: Vec::new(),
        max_concurrent: 0,
        max_concurrent_per_namespace: 0,
        dry_run: None,
        allow_hosts: Vec::new(),
        lease_namespace: "canary-mcp-system".to_owned(),
        home: None,
        lead_at_most: 200,
    }
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    assert_eq!(
        parse("canary-mcp serve --embedded"),
        Ok(Config::Serve(Serve {
            listen: "127.0.0.1:8080".parse().unwrap(),
            embedded: Some(20),
            sources: no_sources(),
            engine: true,
            auth: Auth::None,
            gate_open_checks: false,
            allowed_host: Vec::new(),
            driving: defaults(),
        }))
    );
    assert_eq!(
        parse("canary-mcp engine --kubeconfig Cargo.toml"),
        Ok(Config::Engine(Alone {
            listen: "127.0.0.1:8081".parse().unwrap(),
            sources: Sources {
                kubeconfig: vec!["Cargo.toml".into()],
                ..no_sources()
            },
            driving: defaults(),
        }))
    );
    assert_eq!(
        parse("canary-mcp cluster"),
        Ok(Config::Cluster(Fleet {
            listen: "127.0.0.1:8090".parse().unwrap(),
            speed: 20,
        }))
    );
    assert_eq!(parse("canary-mcp crds"), Ok(Config::Crds));
    assert_eq!(
        parse("canary-mcp schemas --out tool-schemas"),
        Ok(Config::Schemas {
            out: Some("tool-schemas".into())
        })
    );
}

#[test]
fn every_flag_arrives() {
    let line = "canary-mcp serve --listen 0.0.0.0:0 --embedded --embedded-speed 600 --kubeconfig Cargo.toml:README.md --lead prod-* \
                --lead staging --engine off --mesh-provider istio --metrics-server https://prometheus.example/p/ \
                --event-webhook https://hooks.example/T0/x \
                --allowed-host mcp.example.com --allow-hosts *.datadoghq.com --auth static-tokens --auth-file tokens --gate-open-checks --lease-namespace leases \
                --home staging --lead-at-most 3 --context prod-* --argocd-namespace argocd --argocd-context staging \
                --cluster-labels prod-kr=env=production,region=kr --clusters-file LICENSE --selector-labels app,k8s-app \
                --include-label-prefix team.example.com/ --namespace ai-platform --namespace payments \
                --max-concurrent 3 --max-concurrent-per-namespace 1 --dry-run=routes";
    assert_eq!(
        parse(line),
        Ok(Config::Serve(Serve {
            listen: "0.0.0.0:0".parse().unwrap(),
            embedded: Some(600),
            sources: Sources {
                kubeconfig: vec!["Cargo.toml".into(), "README.md".into()],
                context: vec!["prod-*".to_owned()],
                in_cluster: None,
                argocd: Some(ArgoCd {
                    home: "staging".to_owned(),
                    namespace: "argocd".to_owned(),
                }),
                lead: vec!["prod-*".to_owned(), "staging".to_owned()],
                cluster_labels: vec![Rule {
                    clusters: "prod-kr".to_owned(),
                    labels: [("env", "production"), ("region", "kr")]
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .into(),
                    overrides: Overrides::default(),
                }],
                clusters_file: Some("LICENSE".into()),
            },
            engine: false,
            auth: Auth::StaticTokens("tokens".into()),
            gate_open_checks: true,
            allowed_host: vec!["mcp.example.com".to_owned()],
            driving: Driving {
                mesh_provider: "istio".to_owned(),
                metrics_server: "https://prometheus.example/p".to_owned(),
                event_webhook: Some("https://hooks.example/T0/x".to_owned()),
                selector_labels: vec!["app".to_owned(), "k8s-app".to_owned()],
                include_label_prefix: vec!["team.example.com/".to_owned()],
                namespaces: vec!["ai-platform".to_owned(), "payments".to_owned()],
                max_concurrent: 3,
                max_concurrent_per_namespace: 1,
                dry_run: Some(DryRun::Routes),
                allow_hosts: vec!["*.datadoghq.com".to_owned()],
                lease_namespace: "leases".to_owned(),
                home: Some("staging".to_owned()),
                lead_at_most: 3,
            },
        }))
    );
}

#[test]
fn every_mistake_is_told_at_once() {
    let line = "canary-mcp serve --listen 0.0.0.0:8080 --embedded=perhaps --embedded-speed 0 --kubeconfig /nowhere/config \
                --kubeconfig src --lead= --engine maybe --mesh-provider linkerd --metrics-server prometheus:9090 --event-webhook http://me:s3cret@x/ \
                --allowed-host https://x/y --allow-hosts= --lease-namespace Leases --home= --lead-at-most 0 \
                --context= --in-cluster-name= --argocd-namespace Argo --cluster-labels prod --clusters-file src --selector-labels a/b/c \
                --include-label-prefix= --namespace Prod --max-concurrent=-1 --max-concurrent-per-namespace many --dry-run=all";
    assert_eq!(
        parse(line).unwrap_err(),
        r#"--listen: 0.0.0.0:8080 is not loopback, and there is no authentication: listen on 127.0.0.1, or add --auth static-tokens (or --insecure where only trusted clients can reach it)
--embedded: "perhaps" is neither true nor false
--embedded-speed: "0" is not a whole number from 1 to 600
--kubeconfig: "/nowhere/config" cannot be read (No such file or directory (os error 2)); give the path of a kubeconfig
--kubeconfig: "src" is not a file; give the path of a kubeconfig
--context: "" is not a glob, as in the name of a context, or prod-*
--in-cluster-name: is empty; give the cluster a name
--argocd-namespace: "Argo" is not the name of a namespace: at most 63 lower-case letters, digits and dashes
--argocd-namespace: there is no cluster around this process; say with --argocd-context where Argo CD runs
--lead: "" is not a glob, as in the name of a context, or prod-*
--cluster-labels: "prod" is not CLUSTER=LABELS, as in prod-kr=env=production,region=kr
--clusters-file: "src" is not a file; give the path of a file of clusters
--engine: "maybe" is neither on nor off
--allowed-host: "https://x/y" is not a host name, as in mcp.example.com or mcp.example.com:8443
--mesh-provider: "linkerd" is not carried out by this version; istio, gatewayapi:v1 and kubernetes are
--metrics-server: "prometheus:9090" is not an http or https URL, as in http://prometheus.istio-system:9090
--event-webhook: has a user name or password in it, which would not be sent
--selector-labels: "a/b/c" is no label key, as in app.kubernetes.io/name
--include-label-prefix: "" is no beginning of a label, as in team.example.com/, or * for all
--namespace: "Prod" is not the name of a namespace: at most 63 lower-case letters, digits and dashes
--max-concurrent: "-1" is not a whole number from 0, which is without limit
--max-concurrent-per-namespace: "many" is not a whole number from 0, which is without limit
--dry-run: "all" is none of observe, routes and off
--allow-hosts: "" is not a glob, as in *.example.com
--lease-namespace: "Leases" is not the name of a namespace: at most 63 lower-case letters, digits and dashes
--home: is empty; give the name of a cluster
--lead-at-most: "0" is not a whole number from 1"#
    );
}

#[test]
fn each_mistake_says_what_would_be_right() {
    for (line, said) in [
        (
            "canary-mcp serve",
            "there is no cluster to serve: give --embedded (three clusters in memory) or --kubeconfig PATH, or run in a pod of a cluster",
        ),
        (
            "canary-mcp serve --embedded --listen 8080",
            r#"--listen: "8080" is not an address and a port, as in 127.0.0.1:8080"#,
        ),
        (
            "canary-mcp serve --embedded --embedded-speed 601",
            r#"--embedded-speed: "601" is not a whole number from 1 to 600"#,
        ),
        (
            "canary-mcp serve --embedded --insecure=maybe",
            r#"--insecure: "maybe" is neither true nor false"#,
        ),
        (
            "canary-mcp cluster --listen 192.0.2.1:8090 --speed fast",
            "--listen: 192.0.2.1:8090 is not loopback, and the embedded clusters take any request: listen on 127.0.0.1\n\
             --speed: \"fast\" is not a whole number from 1 to 600",
        ),
        (
            "canary-mcp engine --listen 0.0.0.0:8081 --lead *",
            "there is no cluster to drive rollouts on: give --kubeconfig PATH and --lead GLOB, or run in a pod of a cluster",
        ),
        (
            "canary-mcp serve --embedded --argocd-context staging",
            "--argocd-context: says where Argo CD is; give its namespace too, as in --argocd-namespace argocd",
        ),
        (
            "canary-mcp schemas --out=",
            "--out: is empty; give a directory",
        ),
    ] {
        assert_eq!(parse(line), Err(said.to_owned()), "{line}");
    }
}

#[test]
fn loopback_has_three_spellings() {
    for (typed, address) in [
        ("localhost:0", "127.0.0.1:0"),
        ("127.0.0.2:80", "127.0.0.2:80"),
        ("[::1]:8080", "[::1]:8080"),
    ] {
        let Ok(Config::Serve(serve)) =
            parse(&format!("canary-mcp serve --embedded --listen {typed}"))
        else {
            panic!("{typed} must be taken");
        };
        assert_eq!(serve.listen.to_string(), address);
    }
}

#[test]
fn a_pod_has_a_cluster_around_it() {
    let config = parse_in(
        "canary-mcp serve",
        &[("KUBERNETES_SERVICE_HOST", "10.0.0.1")],
    );
    let Ok(Config::Serve(serve)) = config else {
        panic!("in a pod there is a cluster: {config:?}");
    };
    assert_eq!(serve.sources.in_cluster.as_deref(), Some("in-cluster"));
    assert_eq!(serve.embedded, None);
}

#[test]
fn who_proves_who_they_are_may_come_from_anywhere() {
    let table = [
        (
            "--auth static-tokens --auth-file f --listen 0.0.0.0:0",
            "fine",
        ),
        (
            "--auth static-tokens",
            "--auth: static-tokens needs --auth-file PATH, a file of lines that canary-mcp token prints",
        ),
        (
            "--auth-file f",
            "--auth-file: nothing reads it without --auth static-tokens; add that",
        ),
        (
            "--auth oidc",
            "--auth: \"oidc\" is neither none nor static-tokens",
        ),
    ];
    for (flags, expected) in table {
        let parsed = parse(&format!("canary-mcp serve --embedded {flags}"));
        assert_eq!(
            parsed.err().as_deref().unwrap_or("fine"),
            expected,
            "{flags}"
        );
    }
}

#[test]
fn the_manual_names_the_variable_of_each_flag() {
    let mut command = <Cli as clap::CommandFactory>::command();
    for name in ["serve", "engine", "cluster", "schemas"] {
        let sub = command.find_subcommand_mut(name).unwrap();
        for argument in sub.get_arguments() {
            if argument.get_long() == Some("help") {
                continue;
            }
            let variable = argument.get_env().unwrap().to_str().unwrap();
            // One is Flagger's, for whoever has it set already.
            let named = variable.starts_with("CANARY_MCP_") || variable == "EVENT_WEBHOOK_URL";
            assert!(named, "{variable}");
            assert!(argument.get_help().is_some(), "{variable}");
        }
    }
    let help = command
        .find_subcommand_mut("serve")
        .unwrap()
        .render_long_help()
        .to_string();
    assert!(help.contains("[env: CANARY_MCP_LISTEN="));
    assert!(help.contains("[default: 127.0.0.1:8080]"));
}
