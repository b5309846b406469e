using System.Collections.Concurrent;
using System.Diagnostics;

namespace KernelScope.Cli.Tests;

/// <summary>
/// Three network namespaces, as three computers: a queue's server, and two hosts with names of their own, each on a cable to the server
/// that can be pulled. They share the file system. The machine's own network is not touched.
/// </summary>
internal sealed class TwoHosts : IDisposable
{
    private const int Port = 4222;

    private readonly string _prefix = FormattableString.Invariant($"ks{Environment.ProcessId}");
    private readonly ConcurrentQueue<string> _said = new();
    private readonly Process _server;

    /// <param name="store">Where the server keeps its streams.</param>
    public TwoHosts(string store)
    {
        try
        {
            Ip("netns", "add", Server);
            Ip("-n", Server, "link", "set", "lo", "up");
            for (int host = 0; host < 2; host++)
            {
                Ip("netns", "add", Name(host));
                Ip("-n", Name(host), "link", "set", "lo", "up");
                Ip("link", "add", Cable(host), "netns", Server, "type", "veth", "peer", "name", "eth0", "netns", Name(host));
                Ip("-n", Server, "addr", "add", $"{ServerAddress(host)}/24", "dev", Cable(host));
                Ip("-n", Server, "link", "set", Cable(host), "up");
                Ip("-n", Name(host), "addr", "add", FormattableString.Invariant($"10.231.{host}.2/24"), "dev", "eth0");
                Ip("-n", Name(host), "link", "set", "eth0", "up");
            }

            _server = Start(Server, NatsServer.Path!, "-js", "-sd", store, "-a", "0.0.0.0", "-p", FormattableString.Invariant($"{Port}"));
        }
        catch
        {
            RemoveNamespaces();
            throw;
        }
    }

    /// <summary>Why there can be none here; null if they can.</summary>
    public static string? Missing { get; } = NatsServer.Missing ?? Why();

    private string Server => $"{_prefix}s";

    /// <summary>The server as a host sees it.</summary>
    public static string Url(int host) => FormattableString.Invariant($"nats://{ServerAddress(host)}:{Port}");

    /// <summary>The name by which a host knows itself.</summary>
    public static string HostName(int host) => host == 0 ? "first" : "second";

    /// <summary>What all processes wrote to standard error.</summary>
    public string Said => string.Join('\n', _said);

    /// <summary>Starts the program on a host.</summary>
    public Process Run(int host, params string[] arguments) => Start(Name(host), "unshare", ["--uts", "sh", "-c",
        $"hostname {HostName(host)}; exec \"$@\"", "sh", Program.Host, "exec", Program.Assembly, .. arguments]);

    /// <summary>Pulls the cable between a host and the server, or plugs it in again.</summary>
    public void Plug(int host, bool isIn) => Ip("-n", Server, "link", "set", Cable(host), isIn ? "up" : "down");

    public void Dispose()
    {
        _server.Kill();
        _server.WaitForExit();
        _server.Dispose();
        RemoveNamespaces();
    }

    private static string Cable(int host) => FormattableString.Invariant($"cable{host}");

    private static string ServerAddress(int host) => FormattableString.Invariant($"10.231.{host}.1");

    private string Name(int host) => FormattableString.Invariant($"{_prefix}h{host}");

    private void RemoveNamespaces()
    {
        foreach (string name in new[] { Name(0), Name(1), Server })
            _ = Program.Finish(Program.Start(new ProcessStartInfo("ip", ["netns", "del", name])));
    }

    private static string? Why()
    {
        if (!OperatingSystem.IsLinux())
            return "network namespaces are Linux's.";
        string name = FormattableString.Invariant($"ks{Environment.ProcessId}try");
        try
        {
            Ip("netns", "add", name);
            Ip("netns", "del", name);
            return Program.Finish(Program.Start(new ProcessStartInfo("unshare", ["--uts", "true"]))).ExitCode == 0 ? null
                : "no host name of its own (unshare --uts) is allowed here.";
        }
        catch (Exception e) when (e is System.ComponentModel.Win32Exception or InvalidOperationException)
        {
            return $"network namespaces are not allowed here: {e.Message}";
        }
    }

    private Process Start(string name, string program, params string[] arguments)
    {
        Process process = Program.Start(new ProcessStartInfo("ip", ["netns", "exec", name, program, .. arguments]));
        process.ErrorDataReceived += (_, line) => _said.Enqueue($"{name}: {line.Data}");
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        return process;
    }

    private static void Ip(params string[] arguments)
    {
        Outcome outcome = Program.Finish(Program.Start(new ProcessStartInfo("ip", arguments)));
        if (outcome.ExitCode != 0)
            throw new InvalidOperationException($"ip {string.Join(' ', arguments)}: {outcome.Error.Trim()}");
    }
}
