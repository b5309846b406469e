using KernelScope.Model;

namespace KernelScope.Runtime;

/// <summary>
/// Sessions of requests that ended, so that a prompt that begins like one of them is fed only from where the two part. The one that was
/// used longest ago goes first. Of the engine's thread alone, but for its numbers.
/// </summary>
/// <param name="most">Most sessions; 0: none is kept.</param>
/// <param name="mostBytes">Most bytes of them together.</param>
/// <param name="step">What is taken over is a multiple of so many tokens.</param>
internal sealed class KeptSessions(int most, long mostBytes, int step) : IDisposable
{
    private readonly LinkedList<Entry> _entries = []; // the one that was used last is the first
    private int _count;
    private long _bytes;

    /// <summary>How many there are. For any thread.</summary>
    public int Count => Volatile.Read(ref _count);

    /// <summary>Their bytes. For any thread.</summary>
    public long Bytes => Volatile.Read(ref _bytes);

    /// <summary>A session that begins with as much of a prompt as one of those kept does; null if none helps.</summary>
    /// <param name="prompt">The prompt, of which the last token is left to be fed, for its logits.</param>
    /// <param name="contextLength">Most tokens of the session.</param>
    /// <param name="chunkLength">Most tokens of one call of it.</param>
    /// <param name="room">Bytes that are left for kept sessions; those used longest ago go until that is enough.</param>
    public Session? Begin(ReadOnlySpan<int> prompt, int contextLength, int chunkLength, long room)
    {
        LinkedListNode<Entry>? best = Longest(prompt, out int common);
        if (best is not null)
        {
            _entries.Remove(best);
            _entries.AddFirst(best);
        }

        while (_bytes > room && _count > 1)
            RemoveOldest();
        Session? session = best?.Value.Session.CopyOf(common, contextLength, chunkLength);
        if (_bytes > room)
            RemoveOldest();
        return session;
    }

    /// <summary>Takes a session, which it disposes when its time has come: at once where there is no room.</summary>
    /// <param name="session">One whose keys and values are the model's own of its tokens.</param>
    /// <param name="usable">How many of its tokens may be taken over.</param>
    /// <param name="bytes">Its size.</param>
    /// <param name="room">Bytes that are left for kept sessions.</param>
    public void Keep(Session session, int usable, long bytes, long room)
    {
        var entry = new Entry(session, usable - (usable % step), bytes);
        room = Math.Min(room, mostBytes);
        bool isOfUse = entry.Usable >= Math.Max(2, session.LowestPosition) && bytes <= room && most > 0;
        // Of a text and its continuation the longer is enough.
        if (!isOfUse || _entries.Any(e => e.Covers(entry)))
        {
            session.Dispose();
            return;
        }

        for (LinkedListNode<Entry>? node = _entries.First, next; node is not null; node = next)
        {
            next = node.Next;
            if (entry.Covers(node.Value))
                Remove(node);
        }

        _entries.AddFirst(entry);
        _count++;
        _bytes += bytes;
        while (_count > most || _bytes > room)
            RemoveOldest();
    }

    /// <summary>Gives back the session that was used longest ago.</summary>
    /// <returns>False if there is none.</returns>
    public bool RemoveOldest()
    {
        if (_entries.Last is not LinkedListNode<Entry> oldest)
            return false;
        Remove(oldest);
        return true;
    }

    /// <summary>Gives all of them back.</summary>
    public void Dispose()
    {
        while (RemoveOldest())
        {
        }
    }

    private LinkedListNode<Entry>? Longest(ReadOnlySpan<int> prompt, out int longest)
    {
        LinkedListNode<Entry>? best = null;
        // A first token alone, BOS, is in all of them and spares nothing.
        longest = 1;
        for (LinkedListNode<Entry>? node = _entries.First; node is not null; node = node.Next)
        {
            int common = Math.Min(node.Value.Tokens.CommonPrefixLength(prompt), prompt.Length - 1);
            common -= common % step;
            if (common > longest && common >= node.Value.Session.LowestPosition)
                (best, longest) = (node, common);
        }

        return best;
    }

    private void Remove(LinkedListNode<Entry> node)
    {
        _entries.Remove(node);
        _count--;
        _bytes -= node.Value.Bytes;
        node.Value.Session.Dispose();
    }

    /// <summary>A kept session, and how many of its tokens may be taken over.</summary>
    private sealed record Entry(Session Session, int Usable, long Bytes)
    {
        public ReadOnlySpan<int> Tokens => Session.Tokens[..Usable];

        /// <summary>Whether what begins like the other can as well begin with this.</summary>
        public bool Covers(Entry other) => Tokens.StartsWith(other.Tokens) && other.Usable >= Session.LowestPosition;
    }
}
