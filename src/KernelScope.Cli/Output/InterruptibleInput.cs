namespace KernelScope.Cli;

/// <summary>Standard input, whose reads end when the program is asked to.</summary>
internal sealed class InterruptibleInput(Stream inner, CancellationToken cancellationToken) : Stream
{
    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    // The thread that waits for input is left waiting; it does not keep the process alive.
    public override int Read(byte[] buffer, int offset, int count)
    {
        try
        {
            return StandardInput.Wait(() => inner.Read(buffer, offset, count), cancellationToken);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new IOException($"standard input cannot be read ({e.Message.TrimEnd('.')}).", e);
        }
    }

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
}
