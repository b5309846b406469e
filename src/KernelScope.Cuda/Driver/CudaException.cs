namespace KernelScope.Cuda.Driver;

/// <summary>The CUDA driver is not there, is not fit, or refused a call. The message is one or two sentences for a user.</summary>
/// <remarks>Any number of threads may read it.</remarks>
public sealed class CudaException : InvalidOperationException
{
    /// <summary>A failure that is not a result of a call.</summary>
    public CudaException(string message) : this(CudaResult.Unknown, message)
    {
    }

    /// <summary>A failed call.</summary>
    internal CudaException(CudaResult result, string message) : base(message) => Result = result;

    /// <summary>What the driver returned; <see cref="CudaResult.Unknown"/> where no call failed.</summary>
    internal CudaResult Result { get; }
}
