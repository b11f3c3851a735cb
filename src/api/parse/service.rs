//! `spec.service`.

use serde_json::Value;

use super::fields::Fields;
use crate::decide::plan::{PortRef, Router, Service};

/// Room for `-primary` within the 63 characters of a Service's name.
const LONGEST: usize = 63 - "-primary".len();

pub(super) fn service(f: &mut Fields<'_>, router: Router, target: &str) -> Service {
    if f.at("spec.service").is_none() {
        f.refuse(
            "spec.service",
            "the service is missing",
            "give at least service.port",
        );
    }
    let name = f
        .string("spec.service.name")
        .unwrap_or_else(|| target.to_owned());
    // A target with a wrong name has been refused already.
    if name != target || name.len() > LONGEST {
        f.check_name("spec.service.name", &name, LONGEST);
    }
    let port = port(f);
    let delegation = f.boolean("spec.service.delegation");
    let hosts = f.strings("spec.service.hosts");
    let gateways = f.strings("spec.service.gateways");
    if delegation && !(hosts.is_empty() && gateways.is_empty()) {
        f.refuse(
            "spec.service.delegation",
            "a delegate has neither hosts nor gateways",
            "take service.hosts and service.gateways out, or delegation",
        );
    }
    virtual_service(
        f,
        router,
        delegation || !(hosts.is_empty() && gateways.is_empty()),
    );
    refuse_rest(f, router);
    Service {
        port,
        port_name: f
            .string("spec.service.portName")
            .unwrap_or_else(|| "http".to_owned()),
        target_port: target_port(f, port),
        app_protocol: f.string("spec.service.appProtocol"),
        port_discovery: f.boolean("spec.service.portDiscovery"),
        hosts: with_apex(hosts, &name, delegation),
        gateways: if gateways.is_empty() && !delegation {
            vec!["mesh".to_owned()]
        } else {
            gateways
        },
        delegation,
        name,
    }
}

/// `service.virtualService`: one of others, whose routes of these names are split. It has its own hosts and gateways.
fn virtual_service(f: &mut Fields<'_>, router: Router, placed: bool) {
    let path = "spec.service.virtualService";
    if f.at(path).is_none() {
        return;
    }
    f.name(&format!("{path}.name"), 253);
    f.strings(&format!("{path}.routes"));
    if router != Router::Istio {
        f.refuse(
            path,
            format!("provider {} has no VirtualServices", router.name()),
            "take the field out, or set provider istio",
        );
    }
    if placed {
        f.refuse(
            path,
            "a VirtualService that is there has its own hosts and gateways",
            "take service.hosts, service.gateways and service.delegation out, or virtualService",
        );
    }
}

/// Flagger adds the apex to the hosts unless it is there or `*` covers it; a delegate has none.
fn with_apex(mut hosts: Vec<String>, apex: &str, delegation: bool) -> Vec<String> {
    if !delegation && !hosts.iter().any(|host| host == "*" || host == apex) {
        hosts.push(apex.to_owned());
    }
    hosts
}

fn port(f: &mut Fields<'_>) -> u16 {
    let path = "spec.service.port";
    let number = f.optional_integer(path, 1..=65_535);
    if f.at(path).is_none() && f.at("spec.service").is_some() {
        f.refuse(path, "the port is missing", "give the port of the Service");
    }
    number.and_then(|n| u16::try_from(n).ok()).unwrap_or(0)
}

/// A number or a port name; Flagger: the port by default, and 0 or an empty name is none.
fn target_port(f: &mut Fields<'_>, port: u16) -> PortRef {
    let path = "spec.service.targetPort";
    match f.at(path) {
        None => PortRef::Number(port),
        Some(Value::String(name)) if name.is_empty() => PortRef::Number(port),
        Some(Value::String(name)) => match name.parse::<u16>() {
            Ok(number) => PortRef::Number(number),
            Err(_) => PortRef::Name(name.clone()),
        },
        Some(_) => match f.integer(path, i64::from(port), 0..=65_535) {
            0 => PortRef::Number(port),
            number => PortRef::Number(u16::try_from(number).unwrap_or(port)),
        },
    }
}

fn refuse_rest(f: &mut Fields<'_>, router: Router) {
    f.not_yet_if_true("spec.service.headless", "a headless Service");
    for (field, what) in [
        ("trafficDistribution", "a traffic distribution"),
        ("meshName", "routing through App Mesh"),
        ("backends", "routing through App Mesh"),
    ] {
        f.not_yet(&format!("spec.service.{field}"), what);
    }
    if router == Router::GatewayApi && f.len("spec.service.gatewayRefs") == 0 {
        f.refuse(
            "spec.service.gatewayRefs",
            "provider gatewayapi:v1 routes through Gateways, and none is named",
            "name a Gateway, or the Service itself (group core, kind Service) for a mesh",
        );
    }
}
