/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Stands in for a kernel's configuration header, which BCC includes first: nodes often have no kernel headers.
 * Nothing here describes a kernel; what is read from one by offset comes from its BTF (agent/probe/btf.py). */
#pragma once
typedef signed char s8;
typedef unsigned char u8;
typedef short s16;
typedef unsigned short u16;
typedef int s32;
typedef unsigned int u32;
typedef long long s64;
typedef unsigned long long u64;
typedef _Bool bool;
#define true 1
#define false 0
typedef unsigned long size_t;
typedef unsigned long uintptr_t;
#define CONFIG_BPF_SYSCALL 1
enum skb_drop_reason { SKB_NOT_DROPPED_YET };
