"""Cgroup paths of kubelets, runtimes and systemd."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.agent.enrich.cgroups import CgroupName, parse, unescape

ID = "0123456789abcdef" * 4
OTHER = "f" * 64
UID = "1098fef4-33c5-423b-9a0d-cc1cd65c0726"
SLICE_UID = UID.replace("-", "_")
HASH = "d0f1e2a3b4c5d6e7f8091a2b3c4d5e6f"
SYSTEMD = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICE_UID}.slice"
KIND = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice"
CGROUPFS = f"/kubepods/burstable/pod{UID}"

PODS = {
    "systemd driver, containerd": (
        f"{SYSTEMD}/cri-containerd-{ID}.scope",
        UID,
        ID,
        "containerd",
        "Burstable",
    ),
    "systemd driver, CRI-O": (
        f"{SYSTEMD}/crio-{ID}.scope",
        UID,
        ID,
        "cri-o",
        "Burstable",
    ),
    "systemd driver, CRI-O, container below": (
        f"{SYSTEMD}/crio-{ID}.scope/container",
        UID,
        ID,
        "cri-o",
        "Burstable",
    ),
    "systemd driver, docker": (
        f"{SYSTEMD}/docker-{ID}.scope",
        UID,
        ID,
        "docker",
        "Burstable",
    ),
    "systemd driver, conmon is no container": (
        f"{SYSTEMD}/crio-conmon-{ID}.scope",
        UID,
        "",
        "",
        "Burstable",
    ),
    "cgroupfs driver": (
        f"{CGROUPFS}/{ID}",
        UID,
        ID,
        "",
        "Burstable",
    ),
    "cgroupfs driver, CRI-O": (
        f"{CGROUPFS}/crio-{ID}",
        UID,
        ID,
        "cri-o",
        "Burstable",
    ),
    "cgroupfs driver, guaranteed": (
        f"/kubepods/pod{UID}/{ID}",
        UID,
        ID,
        "",
        "Guaranteed",
    ),
    "cgroupfs driver, best effort": (
        f"/kubepods/besteffort/pod{UID}/{ID}",
        UID,
        ID,
        "",
        "BestEffort",
    ),
    "systemd driver, guaranteed": (
        f"/kubepods.slice/kubepods-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope",
        UID,
        ID,
        "containerd",
        "Guaranteed",
    ),
    "systemd driver, best effort": (
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SLICE_UID}.slice",
        UID,
        "",
        "",
        "BestEffort",
    ),
    "containerd without SystemdCgroup": (
        f"/kubepods-burstable-pod{SLICE_UID}.slice:cri-containerd:{ID}",
        UID,
        ID,
        "containerd",
        "Burstable",
    ),
    "the same below system.slice": (
        f"/system.slice/containerd.service/kubepods-burstable-pod{SLICE_UID}.slice:cri-containerd:{ID}",
        UID,
        ID,
        "containerd",
        "Burstable",
    ),
    "kind and k3s": (
        f"/kubelet/kubepods/burstable/pod{UID}/{ID}",
        UID,
        ID,
        "",
        "Burstable",
    ),
    "kind, systemd driver": (
        f"{KIND}/kubelet-kubepods-burstable-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope",
        UID,
        ID,
        "containerd",
        "Burstable",
    ),
    "kind's node is a container itself": (
        f"/docker/{OTHER}/kubelet/kubepods/besteffort/pod{UID}/{ID}",
        UID,
        ID,
        "",
        "BestEffort",
    ),
    "a subtree": (
        f"/flows-demo/node-2{SYSTEMD}/cri-containerd-{ID}.scope",
        UID,
        ID,
        "containerd",
        "Burstable",
    ),
    "static pod": (
        f"/kubepods/burstable/pod{HASH}/{ID}",
        HASH,
        ID,
        "",
        "Burstable",
    ),
    "static pod, systemd driver": (
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{HASH}.slice/crio-{ID}.scope",
        HASH,
        ID,
        "cri-o",
        "Burstable",
    ),
    "what a container makes below itself": (
        f"{SYSTEMD}/cri-containerd-{ID}.scope/init.scope",
        UID,
        ID,
        "containerd",
        "Burstable",
    ),
    "systemd in a pod": (
        f"{SYSTEMD}/cri-containerd-{ID}.scope/system.slice/nginx.service",
        UID,
        ID,
        "containerd",
        "Burstable",
    ),
    "pod inside of a pod: the inner": (
        f"/kubepods/pod{HASH}/{OTHER}{CGROUPFS}/{ID}",
        UID,
        ID,
        "",
        "Burstable",
    ),
}


@pytest.mark.parametrize("case", PODS)
def test_pod_paths(case: str) -> None:
    path, uid, container, runtime, qos = PODS[case]
    assert parse(path) == CgroupName(uid, container, runtime, "", qos)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", CgroupName()),
        ("", CgroupName()),
        ("/kubepods.slice", CgroupName()),
        ("/system.slice/nginx.service", CgroupName(systemd_unit="nginx.service")),
        (
            "/system.slice/system-getty.slice/getty@tty1.service",
            CgroupName(systemd_unit="getty@tty1.service"),
        ),
        ("/system.slice/my\\x2dapp.service", CgroupName(systemd_unit="my-app.service")),
        ("/init.scope", CgroupName(systemd_unit="init.scope")),
        ("/user.slice/user-1000.slice/session-3.scope", CgroupName(systemd_unit="session-3.scope")),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service",
            CgroupName(systemd_unit="web.service"),
        ),
        ("/system.slice/kubelet.service", CgroupName(systemd_unit="kubelet.service")),
        ("/system.slice/ssh.service/worker-1", CgroupName(systemd_unit="ssh.service")),
        ("/user.slice", CgroupName()),
        (f"/docker/{ID}", CgroupName(container_id=ID, runtime="docker")),
        (f"/system.slice/docker-{ID}.scope", CgroupName(container_id=ID, runtime="docker")),
        (f"/system.slice/docker-{ID}.scope/init.scope", CgroupName("", ID, "docker", "init.scope")),
        (f"/machine.slice/libpod-{ID}.scope", CgroupName(container_id=ID, runtime="podman")),
        (f"/machine.slice/libpod-{ID}.scope/container", CgroupName(container_id=ID, runtime="podman")),
        (f"/libpod_parent/libpod-{ID}", CgroupName(container_id=ID, runtime="podman")),
        (f"/machine.slice/libpod-conmon-{ID}.scope", CgroupName(systemd_unit=f"libpod-conmon-{ID}.scope")),
        (f"/system.slice/nerdctl-{ID}.scope", CgroupName(container_id=ID, runtime="containerd")),
        (f"/system.slice/crio-conmon-{ID}.scope", CgroupName(systemd_unit=f"crio-conmon-{ID}.scope")),
        (f"/pod{UID}", CgroupName()),
        ("/kubepods/podcast.service", CgroupName(systemd_unit="podcast.service")),
        (f"/docker/{ID[:-1]}", CgroupName()),
    ],
)
def test_other_paths(path: str, expected: CgroupName) -> None:
    assert parse(path) == expected


@pytest.mark.parametrize(
    ("escaped", "plain"),
    [
        ("a\\x2db.service", "a-b.service"),
        ("\\xff.service", "\\xff.service"),
        ("\\x2.service", "\\x2.service"),
    ],
)
def test_unescape(escaped: str, plain: str) -> None:
    assert unescape(escaped) == plain


PIECES = st.sampled_from(
    [
        "kubepods",
        "kubepods.slice",
        "burstable",
        f"pod{UID}",
        ID,
        f"crio-{ID}.scope",
        "x.service",
        "..",
        ":",
        "\\x00",
        "",
    ]
)


@given(st.lists(PIECES | st.text(max_size=20), max_size=8))
def test_any_path_is_parsed_and_any_prefix_keeps_the_pod(parts: list[str]) -> None:
    name = parse("/".join(parts))
    if name.pod_uid:
        assert parse("/prefix/" + "/".join(parts)) == name
    assert len(name.container_id) in (0, 64)
