using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace KernelScope.Cli.Tests;

/// <summary>A NATS server of a test's own, with its streams in a folder: killed, started again, with or without its disk.</summary>
internal sealed class NatsServer : IDisposable
{
    private readonly string _store;
    private readonly int _port = FreePort();
    private Process? _process;

    public NatsServer(string store)
    {
        _store = store;
        Start();
    }

    /// <summary>The program; null if there is none here.</summary>
    public static string? Path { get; } = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Append("/usr/sbin")
        .Select(p => System.IO.Path.Combine(p, "nats-server")).FirstOrDefault(File.Exists);

    /// <summary>Why there is none here; null if there is.</summary>
    public static string? Missing { get; } = OperatingSystem.IsLinux() && Path is not null ? null
        : "nats-server is not on the PATH (Debian: apt-get install nats-server).";

    public string Url => FormattableString.Invariant($"nats://127.0.0.1:{_port}");

    /// <summary>Clients that are connected, by the system's list of connections: local address and port, state 01.</summary>
    public int Clients => File.ReadLines("/proc/net/tcp").Count(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries) is
        [_, var local, _, "01", ..] && local.EndsWith(FormattableString.Invariant($":{_port:X4}"), StringComparison.Ordinal));

    public void Start()
    {
        var start = new ProcessStartInfo(Path!, ["-js", "-sd", _store, "-a", "127.0.0.1", "-p",
            FormattableString.Invariant($"{_port}")])
        { RedirectStandardError = true, RedirectStandardOutput = true };
        _process = Process.Start(start)!;
        _process.BeginErrorReadLine();
        _process.BeginOutputReadLine();
        for (var watch = Stopwatch.StartNew(); watch.Elapsed < TimeSpan.FromSeconds(30); Thread.Sleep(20))
        {
            try
            {
                using var client = new TcpClient("127.0.0.1", _port);
                return;
            }
            catch (SocketException)
            {
                // Not yet.
            }
        }

        throw new InvalidOperationException("nats-server did not start.");
    }

    /// <summary>Puts a message onto a subject, as any other program may, and waits until the server has it.</summary>
    public void Publish(string subject, string text)
    {
        using var client = new TcpClient("127.0.0.1", _port);
        using NetworkStream stream = client.GetStream();
        using var reader = new StreamReader(stream);
        stream.Write(System.Text.Encoding.ASCII.GetBytes(
            $"CONNECT {{\"verbose\":false}}\r\nPUB {subject} {text.Length}\r\n{text}\r\nPING\r\n"));
        while (reader.ReadLine() is string line && line != "PONG")
        {
        }
    }

    /// <summary>kill -9.</summary>
    public void Kill()
    {
        _process!.Kill();
        _process.WaitForExit();
        _process.Dispose();
        _process = null;
    }

    /// <summary>What the server kept is lost.</summary>
    public void LoseDisk()
    {
        Kill();
        Directory.Delete(_store, recursive: true);
        Start();
    }

    public void Dispose()
    {
        if (_process is not null)
            Kill();
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
