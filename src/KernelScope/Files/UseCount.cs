namespace KernelScope.Files;

/// <summary>Counts who uses a resource. Its owner is one of them until it is through; the resource goes with the last. Any number of threads may use it.</summary>
/// <param name="name">What it is, for messages.</param>
/// <param name="free">Gives it back; called once.</param>
internal sealed class UseCount(string name, Action free)
{
    private int _users = 1;
    private int _ownerIsThrough;

    /// <summary>One user more.</summary>
    /// <exception cref="ObjectDisposedException">It was given back.</exception>
    public void Enter()
    {
        int users = Volatile.Read(ref _users);
        while (users > 0)
        {
            int seen = Interlocked.CompareExchange(ref _users, users + 1, users);
            if (seen == users)
                return;
            users = seen;
        }

        throw new ObjectDisposedException(name, $"{BadFile.Printable(name, 4096)} was disposed.");
    }

    /// <summary>One user less.</summary>
    public void Exit()
    {
        if (Interlocked.Decrement(ref _users) == 0)
            free();
    }

    /// <summary>The owner is through; once.</summary>
    public void EndOwner()
    {
        if (Interlocked.Exchange(ref _ownerIsThrough, 1) == 0)
            Exit();
    }

    /// <summary>One user more, until the result is disposed.</summary>
    /// <exception cref="ObjectDisposedException">It was given back.</exception>
    public IDisposable Hold()
    {
        Enter();
        return new Use(this);
    }

    private sealed class Use(UseCount count) : IDisposable
    {
        private UseCount? _count = count;

        public void Dispose() => Interlocked.Exchange(ref _count, null)?.Exit();
    }
}
