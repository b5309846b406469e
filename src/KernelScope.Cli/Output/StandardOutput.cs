using KernelScope.Files;

namespace KernelScope.Cli;

/// <summary>Standard output, whose failures say that they are its own.</summary>
internal sealed class StandardOutput(Stream inner) : WriteOnlyStream
{
    public override void Write(ReadOnlySpan<byte> buffer)
    {
        try
        {
            inner.Write(buffer);
        }
        catch (Exception e) when (AtomicFile.IsFailure(e))
        {
            throw Failed(e);
        }
    }

    public override void Flush()
    {
        try
        {
            inner.Flush();
        }
        catch (Exception e) when (AtomicFile.IsFailure(e))
        {
            throw Failed(e);
        }
    }

    private static IOException Failed(Exception e) =>
        new($"standard output cannot be written ({e.Message.Split(" (Parameter '")[0].TrimEnd('.')}).", e);
}
