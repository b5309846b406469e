using KernelScope.Files;
using Microsoft.Win32.SafeHandles;

namespace KernelScope.Cli;

/// <summary>What stands on standard input.</summary>
internal enum StandardInputKind
{
    /// <summary>A terminal, a device such as /dev/null, or nothing: it is closed. Systems other than Linux do not tell.</summary>
    None,

    /// <summary>A pipe or a socket.</summary>
    Pipe,

    /// <summary>A file.</summary>
    File,
}

/// <summary>Standard input of this process, which can be read once. A signal ends the wait for it.</summary>
internal static class StandardInput
{
    /// <summary>How <c>-</c> is called in messages.</summary>
    public const string Name = "standard input";

    /// <summary>How long a verb that has a text without it waits for the first byte: a pipe that nobody writes to must not hold it for ever.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    private static bool _wasRead;

    /// <summary>What stands there: a file or a pipe was put there on purpose, /dev/null says that there is nothing.</summary>
    public static StandardInputKind Kind
    {
        get
        {
            if (IsTerminal || Descriptor.IsClosed(0))
                return StandardInputKind.None;
            using var input = new SafeFileHandle(0, ownsHandle: false);
            return FileStatus.Of(input) is not FileStatus status ? StandardInputKind.None
                : status.IsRegular ? StandardInputKind.File
                : status.IsDevice ? StandardInputKind.None
                : StandardInputKind.Pipe;
        }
    }

    /// <summary>Cancelled by Ctrl+C and SIGTERM.</summary>
    public static CancellationToken Cancellation { get; set; }

    /// <summary>Whether a person types it.</summary>
    public static bool IsTerminal => !Console.IsInputRedirected;

    /// <summary>All of it, however long that takes.</summary>
    /// <exception cref="UsageException">Two options name it.</exception>
    /// <exception cref="WorkException">It is closed.</exception>
    public static byte[] ReadAll()
    {
        Claim();
        return Descriptor.IsClosed(0)
            ? throw new WorkException("standard input is closed, and '-' reads from it.")
            : Wait(() => Rest([], Console.OpenStandardInput()), Cancellation);
    }

    /// <summary>What a pipe or a file holds that stands on standard input although no option asks for it.</summary>
    /// <returns>Empty on a terminal, where it is closed or empty (/dev/null); null if nothing came in time.</returns>
    public static byte[]? ReadWhatComes()
    {
        if (IsTerminal || Descriptor.IsClosed(0) || _wasRead)
            return [];
        Claim();
        Stream input = Console.OpenStandardInput();
        byte[] buffer = new byte[1 << 12];
        Task<int> first = Task.Run(() => input.Read(buffer));
        if (Task.WaitAny([first], (int)Patience.TotalMilliseconds, Cancellation) < 0)
            return null;
        int count = first.GetAwaiter().GetResult();
        return count == 0 ? [] : Wait(() => Rest(buffer.AsSpan(0, count), input), Cancellation);
    }

    /// <summary>Does what may block in the kernel, where no token reaches it, on another thread.</summary>
    public static T Wait<T>(Func<T> read, CancellationToken cancellation)
    {
        var reading = Task.Run(read, CancellationToken.None);
        Task.WaitAny([reading], cancellation);
        return reading.GetAwaiter().GetResult();
    }

    private static void Claim()
    {
        if (_wasRead)
            throw new UsageException("standard input is named twice; it can be read once.");
        _wasRead = true;
    }

    private static byte[] Rest(ReadOnlySpan<byte> first, Stream input)
    {
        using var bytes = new MemoryStream();
        bytes.Write(first);
        input.CopyTo(bytes);
        return bytes.ToArray();
    }
}
