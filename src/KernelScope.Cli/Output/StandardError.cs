using KernelScope.Files;

namespace KernelScope.Cli;

/// <summary>Standard error. What cannot be said there (a full disk, a reader that went away) is dropped: the work and its exit code do not depend on it.</summary>
internal sealed class StandardError(Stream inner) : WriteOnlyStream
{
    public override void Write(ReadOnlySpan<byte> buffer)
    {
        try
        {
            inner.Write(buffer);
        }
        catch (Exception e) when (AtomicFile.IsFailure(e))
        {
            // There is no other place to say it.
        }
    }

    // Nothing is buffered here.
    public override void Flush()
    {
    }
}
