# RouterOS commands that prepare a router for wanctl; made by wanctl router-setup.
#
# Read them, fill in block 1, and paste them into a terminal of the router, or upload the file
# and /import it. Each command looks first: what is there already is left as it is, and a second
# run adds nothing. Lines with a leading # change what other things on the router may depend on;
# run them yourself if you want that. RouterOS 7.20.1 or later is needed (CVE-2025-10948).

# 1. Values that only you know
# ----------------------------
# Everything that says CHANGE-ME. They are forgotten again in the last block.
# the address of the machine that runs wanctl; several with commas
:global wanctlHost "192.168.88.10,192.168.88.11"
# the same as in the password-file of the configuration
:global wanctlPassword "CHANGE-ME"
# the interface towards the LAN, such as bridge
:global wanctlLan "CHANGE-ME"
# the interface towards cable, such as ether1
:global wanctlWan1 "CHANGE-ME"
# the gateway of cable: an address, or an interface
:global wanctlGateway1 "CHANGE-ME"
# the interface towards lte, such as ether1
:global wanctlWan2 "CHANGE-ME"
# the gateway of lte: an address, or an interface
:global wanctlGateway2 "CHANGE-ME"
# stops an /import with something left to fill in
:if ([:len [/system/script/environment/find name~"^wanctl" value="CHANGE-ME"]] > 0) do={ :error "fill in block 1 first" }

# 2. A user for wanctl alone
# --------------------------
# RouterOS works on one REST request of a user at a time, so nobody should share it. The group
# has the four policies wanctl needs and no other; the user may log in from that machine only.
:if ([:len [/user/group/find name="wanctl"]] = 0) do={ /user/group/add name="wanctl" policy=read,write,api,rest-api } else={ :put "/user/group name=\"wanctl\" is there already; left as it is" }
:if ([:len [/user/find name="wanctl"]] = 0) do={ :if ($wanctlPassword = "CHANGE-ME") do={ :error "fill in block 1 first" }; /user/add name="wanctl" group="wanctl" address=$wanctlHost password=$wanctlPassword } else={ :put "/user name=\"wanctl\" is there already; left as it is" }

# 3. HTTPS for REST
# -----------------
# A CA and a certificate for the address in the configuration, with a key that small routers
# can handle quickly. Set the router's clock first. Signing takes some seconds.
:if ([:len [/certificate/find name="wanctl-ca"]] = 0) do={ /certificate/add name="wanctl-ca" common-name="wanctl-ca" key-usage=key-cert-sign,crl-sign key-size=2048 days-valid=3650; /certificate/sign "wanctl-ca" } else={ :put "/certificate name=\"wanctl-ca\" is there already; left as it is" }
:if ([:len [/certificate/find name="wanctl-rest"]] = 0) do={ /certificate/add name="wanctl-rest" common-name="192.168.88.1" subject-alt-name="IP:192.168.88.1" key-usage=digital-signature,key-encipherment,tls-server key-size=2048 days-valid=3650; /certificate/sign "wanctl-rest" ca="wanctl-ca" } else={ :put "/certificate name=\"wanctl-rest\" is there already; left as it is" }
# The service gets it, unless it has another one already.
:if ([:len [/ip/service/get www-ssl certificate]] = 0 or [:tostr [/ip/service/get www-ssl certificate]] = "none") do={ /ip/service/set www-ssl certificate="wanctl-rest" tls-version=only-1.2 port=443 disabled=no } else={ :put "www-ssl has a certificate already, whose CA ca-file then needs; left as it is" }
# Other machines may need www-ssl too. If not:
# /ip/service/set www-ssl address=$wanctlHost
# The CA for the ca-file of the configuration: copy wanctl-ca.crt from /file to that machine.
:if ([:len [/file/find name="wanctl-ca.crt"]] = 0) do={ /certificate/export-certificate "wanctl-ca" type=pem file-name="wanctl-ca" } else={ :put "/file name=\"wanctl-ca.crt\" is there already; left as it is" }

# 4. Queue types
# --------------
# CAKE keeps flows from waiting for each other. Its own cake-bandwidth stays 0: the rate is
# max-limit of the queue, which wanctl moves. NAT look-up only in the upload: in the download
# it has made delay on some versions. If you know the overhead of a line, set
# cake-overhead-scheme.
:if ([:len [/queue/type/find name="wanctl-cable-download"]] = 0) do={ /queue/type/add name="wanctl-cable-download" kind=cake cake-bandwidth=0 cake-diffserv=diffserv3 cake-flowmode=dual-dsthost cake-nat=no } else={ :put "/queue/type name=\"wanctl-cable-download\" is there already; left as it is" }
:if ([:len [/queue/type/find name="wanctl-cable-upload"]] = 0) do={ /queue/type/add name="wanctl-cable-upload" kind=cake cake-bandwidth=0 cake-diffserv=diffserv3 cake-flowmode=dual-srchost cake-nat=yes cake-ack-filter=filter } else={ :put "/queue/type name=\"wanctl-cable-upload\" is there already; left as it is" }
:if ([:len [/queue/type/find name="wanctl-lte-download"]] = 0) do={ /queue/type/add name="wanctl-lte-download" kind=cake cake-bandwidth=0 cake-diffserv=diffserv3 cake-flowmode=dual-dsthost cake-nat=no } else={ :put "/queue/type name=\"wanctl-lte-download\" is there already; left as it is" }
:if ([:len [/queue/type/find name="wanctl-lte-upload"]] = 0) do={ /queue/type/add name="wanctl-lte-upload" kind=cake cake-bandwidth=0 cake-diffserv=diffserv3 cake-flowmode=dual-srchost cake-nat=yes cake-ack-filter=none } else={ :put "/queue/type name=\"wanctl-lte-upload\" is there already; left as it is" }

# 5. Queues
# ---------
# One per line and direction, below interfaces, beginning at the ceiling. Watch their byte
# counters afterwards: below some switch and VLAN ports a queue sees nothing; choose another
# parent then.
# Packets are marked by the line they came in by, so that each download queue gets its own.
:if ([:len [/ip/firewall/mangle/find chain=forward action=mark-packet in-interface=$wanctlWan1 new-packet-mark="wanctl-cable-in"]] = 0) do={ /ip/firewall/mangle/add chain=forward action=mark-packet in-interface=$wanctlWan1 new-packet-mark="wanctl-cable-in" passthrough=yes comment="wanctl: download queue" } else={ :put "/ip/firewall/mangle chain=forward action=mark-packet in-interface=\$wanctlWan1 new-packet-mark=\"wanctl-cable-in\" is there already; left as it is" }
:if ([:len [/ipv6/firewall/mangle/find chain=forward action=mark-packet in-interface=$wanctlWan1 new-packet-mark="wanctl-cable-in"]] = 0) do={ /ipv6/firewall/mangle/add chain=forward action=mark-packet in-interface=$wanctlWan1 new-packet-mark="wanctl-cable-in" passthrough=yes comment="wanctl: download queue" } else={ :put "/ipv6/firewall/mangle chain=forward action=mark-packet in-interface=\$wanctlWan1 new-packet-mark=\"wanctl-cable-in\" is there already; left as it is" }
:if ([:len [/ip/firewall/mangle/find chain=forward action=mark-packet in-interface=$wanctlWan2 new-packet-mark="wanctl-lte-in"]] = 0) do={ /ip/firewall/mangle/add chain=forward action=mark-packet in-interface=$wanctlWan2 new-packet-mark="wanctl-lte-in" passthrough=yes comment="wanctl: download queue" } else={ :put "/ip/firewall/mangle chain=forward action=mark-packet in-interface=\$wanctlWan2 new-packet-mark=\"wanctl-lte-in\" is there already; left as it is" }
:if ([:len [/ipv6/firewall/mangle/find chain=forward action=mark-packet in-interface=$wanctlWan2 new-packet-mark="wanctl-lte-in"]] = 0) do={ /ipv6/firewall/mangle/add chain=forward action=mark-packet in-interface=$wanctlWan2 new-packet-mark="wanctl-lte-in" passthrough=yes comment="wanctl: download queue" } else={ :put "/ipv6/firewall/mangle chain=forward action=mark-packet in-interface=\$wanctlWan2 new-packet-mark=\"wanctl-lte-in\" is there already; left as it is" }
:if ([:len [/queue/tree/find name="WAN-Download-Cable"]] = 0) do={ /queue/tree/add name="WAN-Download-Cable" parent=$wanctlLan packet-mark="wanctl-cable-in" queue="wanctl-cable-download" max-limit=940000000 bucket-size=0.01 } else={ :put "/queue/tree name=\"WAN-Download-Cable\" is there already; left as it is" }
:if ([:len [/queue/tree/find name="WAN-Upload-Cable"]] = 0) do={ /queue/tree/add name="WAN-Upload-Cable" parent=$wanctlWan1 packet-mark=no-mark queue="wanctl-cable-upload" max-limit=38000000 bucket-size=0.01 } else={ :put "/queue/tree name=\"WAN-Upload-Cable\" is there already; left as it is" }
:if ([:len [/queue/tree/find name="WAN-Download-LTE"]] = 0) do={ /queue/tree/add name="WAN-Download-LTE" parent=$wanctlLan packet-mark="wanctl-lte-in" queue="wanctl-lte-download" max-limit=60000000 bucket-size=0.01 } else={ :put "/queue/tree name=\"WAN-Download-LTE\" is there already; left as it is" }
:if ([:len [/queue/tree/find name="WAN-Upload-LTE"]] = 0) do={ /queue/tree/add name="WAN-Upload-LTE" parent=$wanctlWan2 packet-mark=no-mark queue="wanctl-lte-upload" max-limit=20000000 bucket-size=0.01 } else={ :put "/queue/tree name=\"WAN-Upload-LTE\" is there already; left as it is" }

# 6. FastTrack
# ------------
# It bypasses mangle, so packets get no mark and the download queues do not see them. With
# several lines it has to go; the router then needs more of its processor. If you agree:
# /ip/firewall/filter/disable [find action=fasttrack-connection]

# 7. Routing tables
# -----------------
# A table per line with its default route. While that route is down, the table is empty and the
# main table decides. Each line needs masquerading in /ip/firewall/nat, as it probably has.
# If the machine of wanctl talks to further networks of yours through this router, add rules
# with table=main for them before those for its probes.
:if ([:len [/routing/table/find name="to-cable"]] = 0) do={ /routing/table/add name="to-cable" fib } else={ :put "/routing/table name=\"to-cable\" is there already; left as it is" }
:if ([:len [/ip/route/find dst-address=0.0.0.0/0 routing-table="to-cable"]] = 0) do={ /ip/route/add dst-address=0.0.0.0/0 routing-table="to-cable" gateway=$wanctlGateway1 check-gateway=ping comment="wanctl: cable" } else={ :put "/ip/route dst-address=0.0.0.0/0 routing-table=\"to-cable\" is there already; left as it is" }
# Probes of this line leave by it alone, whatever the main table says.
:if ([:len [/routing/rule/find src-address=192.168.88.10/32 table="to-cable"]] = 0) do={ /routing/rule/add src-address=192.168.88.10/32 table="to-cable" action=lookup-only-in-table comment="wanctl: probes" } else={ :put "/routing/rule src-address=192.168.88.10/32 table=\"to-cable\" is there already; left as it is" }
:if ([:len [/routing/table/find name="to-lte"]] = 0) do={ /routing/table/add name="to-lte" fib } else={ :put "/routing/table name=\"to-lte\" is there already; left as it is" }
:if ([:len [/ip/route/find dst-address=0.0.0.0/0 routing-table="to-lte"]] = 0) do={ /ip/route/add dst-address=0.0.0.0/0 routing-table="to-lte" gateway=$wanctlGateway2 check-gateway=ping comment="wanctl: lte" } else={ :put "/ip/route dst-address=0.0.0.0/0 routing-table=\"to-lte\" is there already; left as it is" }
# Probes of this line leave by it alone, whatever the main table says.
:if ([:len [/routing/rule/find src-address=192.168.88.11/32 table="to-lte"]] = 0) do={ /routing/rule/add src-address=192.168.88.11/32 table="to-lte" action=lookup-only-in-table comment="wanctl: probes" } else={ :put "/routing/rule src-address=192.168.88.11/32 table=\"to-lte\" is there already; left as it is" }

# 8. Steering
# -----------
# wanctl switches the rules with a comment of the configuration, and nothing else. They mark new
# connections only, and a rule that stays on routes the mark: whatever exists stays where it is.
# As they are they take every new connection from the LAN; add protocol, dst-port or dscp to
# take only what needs low latency. The networks of the LAN and the probes are left out.
# IPv6 stays on the primary.
:if ([:len [/ip/firewall/address-list/find list=wanctl-local address=10.0.0.0/8]] = 0) do={ /ip/firewall/address-list/add list=wanctl-local address=10.0.0.0/8 } else={ :put "/ip/firewall/address-list list=wanctl-local address=10.0.0.0/8 is there already; left as it is" }
:if ([:len [/ip/firewall/address-list/find list=wanctl-local address=172.16.0.0/12]] = 0) do={ /ip/firewall/address-list/add list=wanctl-local address=172.16.0.0/12 } else={ :put "/ip/firewall/address-list list=wanctl-local address=172.16.0.0/12 is there already; left as it is" }
:if ([:len [/ip/firewall/address-list/find list=wanctl-local address=192.168.0.0/16]] = 0) do={ /ip/firewall/address-list/add list=wanctl-local address=192.168.0.0/16 } else={ :put "/ip/firewall/address-list list=wanctl-local address=192.168.0.0/16 is there already; left as it is" }
:if ([:len [/ip/firewall/address-list/find list=wanctl-probes address=192.168.88.10]] = 0) do={ /ip/firewall/address-list/add list=wanctl-probes address=192.168.88.10 } else={ :put "/ip/firewall/address-list list=wanctl-probes address=192.168.88.10 is there already; left as it is" }
:if ([:len [/ip/firewall/address-list/find list=wanctl-probes address=192.168.88.11]] = 0) do={ /ip/firewall/address-list/add list=wanctl-probes address=192.168.88.11 } else={ :put "/ip/firewall/address-list list=wanctl-probes address=192.168.88.11 is there already; left as it is" }
:if ([:len [/ip/firewall/mangle/find comment="wanctl: latency to LTE"]] = 0) do={ /ip/firewall/mangle/add comment="wanctl: latency to LTE" chain=prerouting action=mark-connection new-connection-mark="via-lte" passthrough=yes connection-state=new in-interface=$wanctlLan dst-address-type=!local dst-address-list=!wanctl-local src-address-list=!wanctl-probes disabled=yes } else={ :put "/ip/firewall/mangle comment=\"wanctl: latency to LTE\" is there already; left as it is" }
:if ([:len [/ip/firewall/mangle/find chain=prerouting action=mark-routing connection-mark="via-lte"]] = 0) do={ /ip/firewall/mangle/add chain=prerouting action=mark-routing connection-mark="via-lte" in-interface=$wanctlLan new-routing-mark="to-lte" passthrough=no comment="wanctl: routes lte" } else={ :put "/ip/firewall/mangle chain=prerouting action=mark-routing connection-mark=\"via-lte\" is there already; left as it is" }

# 9. End
# ------
# The values of block 1, with the password, are forgotten.
/system/script/environment/remove [find name~"^wanctl"]
# Then, on the machine of wanctl: wanctl check --router --config FILE
