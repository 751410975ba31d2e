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
:global wanctlHost "CHANGE-ME"
# the same as in the password-file of the configuration
:global wanctlPassword "CHANGE-ME"
# the interface towards the LAN, such as bridge
:global wanctlLan "CHANGE-ME"
# the interface towards cable, such as ether1
:global wanctlWan1 "CHANGE-ME"
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

# 5. Queues
# ---------
# One per line and direction, below interfaces, beginning at the ceiling. Watch their byte
# counters afterwards: below some switch and VLAN ports a queue sees nothing; choose another
# parent then.
# All that leaves towards the LAN counts as download.
:if ([:len [/queue/tree/find name="WAN-Download"]] = 0) do={ /queue/tree/add name="WAN-Download" parent=$wanctlLan packet-mark=no-mark queue="wanctl-cable-download" max-limit=940000000 bucket-size=0.01 } else={ :put "/queue/tree name=\"WAN-Download\" is there already; left as it is" }
:if ([:len [/queue/tree/find name="WAN-Upload"]] = 0) do={ /queue/tree/add name="WAN-Upload" parent=$wanctlWan1 packet-mark=no-mark queue="wanctl-cable-upload" max-limit=38000000 bucket-size=0.01 } else={ :put "/queue/tree name=\"WAN-Upload\" is there already; left as it is" }

# 6. FastTrack
# ------------
# Nothing to do: queues below an interface without packet marks see its packets as well.

# 7. End
# ------
# The values of block 1, with the password, are forgotten.
/system/script/environment/remove [find name~"^wanctl"]
# Then, on the machine of wanctl: wanctl check --router --config FILE
