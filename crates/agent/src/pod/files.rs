//! Files that the node writes for every pod: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`. Pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

/// Limits of `resolv.conf` that the API promises.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

/// Names of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Host name.
    pub hostname: String,
    /// Fully qualified, if it has a subdomain.
    pub fqdn: Option<String>,
}

/// The pod's names. `setHostnameAsFQDN` makes the full one its host name.
pub fn names(pod: &Pod, spec: &PodSpec, domain: &str) -> Names {
    if let Some(name) = spec.hostname_override.as_ref().filter(|n| !n.is_empty()) {
        return Names { hostname: name.clone(), fqdn: None };
    }
    let own = spec.hostname.as_deref().filter(|h| !h.is_empty());
    let short = own.unwrap_or(pod.metadata.name.as_deref().unwrap_or_default());
    // A host name holds 63 characters; what a cut leaves at the end must not be a separator.
    let short = short.get(..63).unwrap_or(short).trim_end_matches(['-', '.']).to_string();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let fqdn =
        spec.subdomain.as_ref().filter(|s| !s.is_empty()).map(|s| format!("{short}.{s}.{namespace}.svc.{domain}"));
    let hostname = match &fqdn {
        Some(full) if spec.set_hostname_as_fqdn == Some(true) => full.clone(),
        _ => short,
    };
    Names { hostname, fqdn }
}

/// `/etc/hosts`. `host_file` is the node's own, used with host network.
pub fn hosts(spec: &PodSpec, names: &Names, ips: &[IpAddr], host_file: &str) -> String {
    let mut text = if spec.host_network == Some(true) {
        format!("# Kubernetes-managed hosts file (host network).\n{host_file}")
    } else {
        let mut text = String::from(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let short = names.hostname.split('.').next().unwrap_or_default();
        for ip in ips {
            match &names.fqdn {
                Some(fqdn) => text.push_str(&format!("{ip}\t{fqdn}\t{short}\n")),
                None => text.push_str(&format!("{ip}\t{}\n", names.hostname)),
            }
        }
        text
    };
    let aliases: Vec<_> = spec.host_aliases.iter().flatten().collect();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            text.push_str(&format!("{}\t{names}\n", alias.ip));
        }
    }
    text
}

/// The node's own resolver configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// `nameserver` lines.
    pub nameservers: Vec<String>,
    /// `search` words.
    pub searches: Vec<String>,
    /// `options` words.
    pub options: Vec<String>,
}

impl Resolver {
    /// Reads a `resolv.conf`.
    pub fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_string);
            match words.next().as_deref() {
                Some("nameserver") => resolver.nameservers.extend(words.next()),
                Some("search") => resolver.searches = words.collect(),
                Some("options") => resolver.options = words.collect(),
                _ => {}
            }
        }
        resolver
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for server in &self.nameservers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

/// `/etc/resolv.conf` by `dnsPolicy` and `dnsConfig`.
pub fn resolv_conf(namespace: &str, spec: &PodSpec, dns: &[IpAddr], domain: &str, host: &Resolver) -> String {
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let on_host = spec.host_network == Some(true);
    let cluster = match policy {
        "ClusterFirst" => !on_host,
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut out = if policy == "None" {
        Resolver::default()
    } else if cluster && !dns.is_empty() {
        let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_string()];
        searches.extend(host.searches.iter().cloned());
        Resolver {
            nameservers: dns.iter().map(ToString::to_string).collect(),
            searches,
            options: vec!["ndots:5".into()],
        }
    } else {
        host.clone()
    };
    if let Some(config) = &spec.dns_config {
        out.nameservers.extend(config.nameservers.iter().flatten().cloned());
        out.searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            out.options.retain(|o| o.split(':').next() != Some(name));
            out.options.push(match option.value.as_deref().filter(|v| !v.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            });
        }
    }
    dedup(&mut out.nameservers);
    dedup(&mut out.searches);
    out.nameservers.truncate(MAX_NAMESERVERS);
    out.searches.truncate(MAX_SEARCHES);
    while out.searches.iter().map(|s| s.len() + 1).sum::<usize>() > MAX_SEARCH_CHARS {
        out.searches.pop();
    }
    out.text()
}

fn dedup(list: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(value: serde_json::Value) -> PodSpec {
        let mut spec = json!({"containers": []});
        spec.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn resolver_by_policy() {
        let host = Resolver::parse("nameserver 1.1.1.1\nsearch corp.example\noptions timeout:2\n");
        let dns = ["10.96.0.10".parse().unwrap()];
        let cluster = "nameserver 10.96.0.10\nsearch ns.svc.cluster.local svc.cluster.local cluster.local corp.example\noptions ndots:5\n";
        let default = "nameserver 1.1.1.1\nsearch corp.example\noptions timeout:2\n";
        for (case, want) in [
            (json!({}), cluster),
            (json!({"dnsPolicy": "Default"}), default),
            (json!({"hostNetwork": true}), default),
            (json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), cluster),
            (
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"], "searches": ["a.b"],
                    "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
                "nameserver 9.9.9.9\nsearch a.b\noptions ndots:2 edns0\n",
            ),
        ] {
            assert_eq!(resolv_conf("ns", &spec(case.clone()), &dns, "cluster.local", &host), want, "{case}");
        }
    }

    #[test]
    fn names_and_hosts() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "ns"}})).unwrap();
        let with = spec(
            json!({"hostname": "h", "subdomain": "s", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}),
        );
        let got = names(&pod, &with, "cluster.local");
        assert_eq!(got.fqdn.as_deref(), Some("h.s.ns.svc.cluster.local"));
        let text = hosts(&with, &got, &["10.0.0.9".parse().unwrap()], "");
        assert!(text.contains("10.0.0.9\th.s.ns.svc.cluster.local\th\n"), "{text}");
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
        let plain = names(&pod, &spec(json!({})), "cluster.local");
        assert_eq!(plain, Names { hostname: "web-0".into(), fqdn: None });
    }
}
