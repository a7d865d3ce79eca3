package main

// usage is what an unknown option gets.
const usage = `usage: tspc [-v...] [-f FILE] [-i IFACE] [-r N] [-u IFACE] [-s X] [-n] [-b] [-y] [-h]
       tspc -h says more
`

// help is what -h prints.
const help = `tspc - Tunnel Server Protocol Client

Gets an IPv6 tunnel from a broker by the Tunnel Setup Protocol (RFC 5572) and runs
it until SIGHUP, SIGINT or SIGTERM. It has the options, the files, the output and
the exit statuses of the tspc of Freenet6 and of gogoCLIENT; the same with newer
manners is sixin4 connect.

` + usage + `
Options; letters may be joined, as in -vf FILE:

  -v            say more on standard output: what is spoken with the broker and
                what is set up. Each -v also raises the log on standard error:
                -v warnings, -vv what happens, -vvv everything; with -vvv the
                messages themselves are shown, with passwords left out
  -f FILE       the configuration file; without it tspc.conf or else gogoc.conf
                in the working directory
  -i IFACE      name of the interface, in place of if_tunnel_v6v4
  -u IFACE      the same of a v6udpv4 tunnel, in place of if_tunnel_v6udpv4
  -s X          an IPv4 address: this end of the tunnel, in place of client_v4;
                a name: the interface of the LAN, in place of if_prefix. The first
                is gogoCLIENT's meaning, the second that of tspc before it
  -r N          seconds between attempts, 0 to 3600, in place of retry_delay
  -n            stay in the foreground; it always does
  -b            end with the first failure; otherwise it tries for ever, and more
                and more rarely, up to retry_delay_max, auto_retry_connect or not
  -y            accepted, without a meaning: no mechanism with server keys is spoken
  -h, -?        this text

Files:

  tspc.conf, gogoc.conf, gw6c.conf
                lines of key=value, # begins a comment. All keys of the old programs
                are taken; one warning names those that mean nothing here, and each
                unknown key is named with its line. Names of files and directories
                count from the directory of the configuration file. A file in TOML
                is taken too (sixin4 help connect-config)
  gogoc_dir/template/NAME.sh   (also tsp_dir, gw6c_dir)
                the script for template=NAME: run with the TSP_* variables to make
                the tunnel (TSP_OPERATION=TSP_TUNNEL_CREATION) and to take it down
                (TSP_TUNNEL_TEARDOWN). Where template=linux has no script, its work
                is done by this program: address/128, MTU 1280, routes
  broker_list, last_server
                the brokers of a redirection, and the one that worked
  log_filename  the log for log_file; log_syslog, log_stderr and log_console choose
                what else is written: 0 nothing, 1 warnings, 2 what happens, 3 all
  /run/sixin4/NAME.sock, NAME.state
                for sixin4 status, and to undo what a killed run could not

The password may be in the environment variable SIXIN4_PASSWORD instead of the file.

What is different from the old programs:

  The tunnel is carried by this program, not by the kernel's sit driver. So it stays
  in the foreground and says so when the tunnel is up; the last line comes when it is
  stopped, and everything it has set up is gone then. A service manager or a shell
  puts it in the background.
  2000::/3 is routed into the tunnel; a default route that is there stays.
  tunnel_mode=v6anyv4 changes from v6v4 to v6udpv4 when protocol 41 gets no answer.
  host_type=router gets the prefix and hands it to the script. Without a script the
  LAN is left alone: this version sends no router advertisements.
  auth_method=any never chooses PLAIN; auth_method=plain does. PASSDSS-3DES-1 is not
  spoken.
  The lifetime of a tunnel is kept: it is asked for anew before its end.

Exit status:

   0  stopped while the tunnel was up; this help; an unknown option
   1  stopped at once by a second signal
   3  configuration, or the command line; also a value that this host shows to be
      wrong, as the name of an interface that exists
   5  client_v4 or -s is no address of this host
   6  the log file cannot be written
   7  the file of last_server cannot be read, and always_use_same_server=yes
   8  the broker's name has no address
   9  nobody answers there
  10  the broker went silent half way, or there is no socket to be had
  11  no common version of the protocol
  12  the broker is busy
  13  the broker refused, for another reason
  14  redirection to nowhere, or in a circle
  15  the broker does not make tunnels of this kind
  16  authentication: user or password, or the broker could not show that it knows it
  17  no common way to authenticate
  18  the script or the interface failed, a privilege or /dev/net/tun is missing, or
      not all could be undone at the end
  19  the broker gave a tunnel that must not be set up
  20  the far end cannot be asked whether it is there
  21  the far end does not answer any more
  22  the lifetime is over, and the broker gave no new tunnel
  23  the tunnel broke, as when its interface was deleted

Stopped by a signal while there is no tunnel it ends with the number of the last
failure.

Examples:

  tspc -vf tspc.conf             as ever: with everything to see
  tspc -nvf /etc/gogoc.conf      the same, with the file of gogoCLIENT
  tspc -b -f tspc.conf           for scripts: try once, and say why not
  tspc -vvvf tspc.conf           with the messages of the protocol
  tspc -f tspc.conf -i six0      with another name for the interface
`
